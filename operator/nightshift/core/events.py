"""Which Events to record: what changed in the status, and what the plan did."""

from nightshift.api.status import Status
from nightshift.core.planning import EventNote as EventNote
from nightshift.core.planning import Plan
from nightshift.core.status import description


def events(before: Status, after: Status, plan: Plan) -> tuple[EventNote, ...]:
    """Events for the step from one status to the next.

    Only transitions make Events, so a reconcile that changes nothing records nothing. What several
    conditions say with the same words is recorded once, as a warning if it is one; what the plan has
    announced, conditions do not tell again.
    """
    notes: list[EventNote] = list(plan.announcements)
    if plan.target is not None and before.target_revision != plan.target.hash:
        message = f"Revision {plan.target.hash}: {description(plan.target)}."
        notes.append(EventNote("Normal", "RevisionSelected", message))
    announced = {note.why for note in plan.announcements if note.why}
    old = {condition.type: condition for condition in before.conditions}
    for condition in after.conditions:
        was = old.get(condition.type)
        same = was is not None and (was.status, was.reason) == (condition.status, condition.reason)
        if same or condition.reason in announced:
            continue
        if condition.type == "Ready" and (condition.status == "True" or was is None or was.status != "False"):
            notes.append(EventNote("Normal", condition.reason, condition.message))
        if condition.type == "Stalled" and condition.status == "True":
            notes.append(EventNote("Warning", condition.reason, condition.message))
        if condition.type == "Available" and condition.status == "False" and was is not None and not _ready(after):
            notes.append(EventNote("Warning", condition.reason, condition.message))
        if condition.type == "Progressing" and _blocked(condition.reason, condition.status, after):
            notes.append(EventNote("Warning", condition.reason, condition.message))
    warned = {(note.reason, note.message) for note in notes if note.type == "Warning"}
    told = (note for note in notes if note.type == "Warning" or (note.reason, note.message) not in warned)
    return tuple(dict.fromkeys(told))


def pod_notes(plan: Plan) -> tuple[EventNote, ...]:
    """What is recorded once pods were deleted, since their engine hangs or somebody changed them."""
    return tuple(EventNote("Warning", item.event, item.reason) for item in plan.delete if item.event is not None)


def _ready(after: Status) -> bool:
    """True also where nothing serves because nothing was asked for."""
    return any(item.type == "Ready" and item.status == "True" for item in after.conditions)


def _blocked(reason: str, status: str, after: Status) -> bool:
    stalled = any(item.type == "Stalled" and item.status == "True" for item in after.conditions)
    return status == "False" and reason not in ("Complete", "Paused") and not stalled
