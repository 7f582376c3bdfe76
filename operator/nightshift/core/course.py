"""How the rollout of the target revision goes: what is noted on it, and what follows for others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core import children
from nightshift.core.changed import changed_pods
from nightshift.core.judged.rolling import Rolling, abandoned, is_compared, opened, rolling, stable_revision
from nightshift.core.marks import Marks, Order, Ordered
from nightshift.core.observed import Observed
from nightshift.core.placing import GOING_ON, Move, Placing, placing
from nightshift.core.planning import Apply, EventNote
from nightshift.core.revisions import Revision, find, newest, revision_spec
from nightshift.core.verdict import judge, told


@dataclass(frozen=True)
class Course:
    """Where the target revision stands."""

    revision: Revision
    """With the marks that it has once this plan is carried out."""
    apply: tuple[Apply, ...] = ()
    announcements: tuple[EventNote, ...] = ()
    placing: Placing = GOING_ON
    rolling: Rolling | None = None
    """Its judged rollout; None where readiness alone decides."""


@dataclass(frozen=True)
class _Note:
    """One change of the marks."""

    marks: Marks
    reason: str
    event: EventNote | None = None


def stored(revision: Revision) -> Apply:
    """A new revision is stored before anything is made of it."""
    return Apply(revision.manifest, f"Storing revision {revision.hash}.", create=True)


def created(
    deployment: LLMDeployment,
    revision: Revision,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
    *,
    cleared: bool,
) -> Course:
    """The course of a revision that is stored now: with the begin of its judged rollout, where it has one."""
    if not is_compared(deployment, config):
        return Course(revision, (stored(revision),))
    given_up = _given_up(deployment, revision, observed, now)
    state = opened(deployment, revision, observed, now)
    if state is None:
        return Course(revision, (*given_up.apply, stored(revision)), given_up.announcements)
    going = rolling(deployment, revision, state, observed, config, GOING_ON, now, cleared=cleared)
    manifest = {**revision.manifest, "metadata": {**revision.manifest["metadata"], "annotations": {}}}
    begun = replace(revision, marks=going.marks, manifest=manifest)
    manifest["metadata"]["annotations"] = going.marks.annotations()
    events = (*given_up.announcements, *going.conduct.step.events)
    return Course(begun, (*given_up.apply, stored(begun)), events, rolling=going)


def left_over(deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime) -> Course | None:
    """The course of a candidate that the spec asks for no more, while the next revision cannot be named yet.

    It is given up at once: nobody would notice otherwise that it fails. None where no replicas of it are left.
    """
    last = newest(observed.revisions)
    state = last.marks.rollout if last is not None else None
    if last is None or state is None or state.phase is Phase.PROMOTED or not is_compared(deployment, config):
        return None
    if observed.replica_set(last.hash) is None:
        return None
    asked = find((last,), revision_spec(deployment.spec)) is not None
    elsewhere = asked and placing(deployment, last, observed, now).move is Move.FALL_BACK
    going = rolling(
        deployment, last, state, observed, config, GOING_ON, now, cleared=True, superseded=True, elsewhere=elsewhere
    )
    if going.marks == last.marks:
        return Course(last, rolling=going)
    current = replace(last, marks=going.marks)
    reason = f"The rollout of revision {last.hash} has ended ({going.state.phase.value})."
    manifest = children.restated_revision(deployment, current, last.number, going.marks)
    return Course(current, (Apply(manifest, reason, create=False),), going.conduct.step.events, rolling=going)


def _given_up(deployment: LLMDeployment, target: Revision, observed: Observed, now: datetime) -> Course:
    """What is noted on candidates that the spec asks for no more, before anything else."""
    applied: list[Apply] = []
    events: list[EventNote] = []
    for item, marks, step in abandoned(deployment, target, observed, now):
        manifest = children.restated_revision(deployment, item, item.number, marks)
        reason = f"The rollout of revision {item.hash} has ended ({step.state.phase.value})."
        applied.append(Apply(manifest, reason, create=False))
        events += step.events
    return Course(target, tuple(applied), tuple(events))


def noted(
    deployment: LLMDeployment,
    revision: Revision,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
    *,
    cleared: bool = True,
) -> Course:
    """What is to be noted on the target revision.

    That it is the newest again, the digest that it runs, that it is tried afresh, that it served in full, that it
    failed, or that it replaces others in place; and where its judged rollout stands.

    Args:
        deployment: The resource.
        revision: The target.
        observed: What exists.
        config: Whether there is a gateway, which judged rollouts need.
        now: The present moment (UTC).
        cleared: Everything is known and fetched that a replica of it needs.
    """
    number, reasons, announced = revision.number, [], []
    last, current = newest(observed.revisions), revision
    if last is not None and last.hash != revision.hash:
        number = last.number + 1
        current = replace(revision, number=number, marks=_fresh(revision.marks, now))
        reasons.append(f"Going back to revision {revision.hash}.")
    compared = is_compared(deployment, config)
    room = _room(deployment, current, observed, now) if compared else placing(deployment, current, observed, now)
    steps: list[Callable[[Revision], _Note | None]] = [
        lambda item: _pinned(item, observed),
        lambda item: _retried(deployment, item, now),
    ]
    for step in steps:
        if (note := step(current)) is not None:
            current = replace(current, marks=note.marks)
            reasons.append(note.reason)
            announced += [note.event] if note.event else []
    state = opened(deployment, current, observed, now) if compared else None
    if state is not None:
        return _rolled(deployment, current, number, reasons, announced, state, observed, config, room, now, cleared)
    steps = [
        lambda item: _proven(deployment, item, observed, now),
        lambda item: _judged(deployment, item, observed, now),
        lambda item: _ordered(item, room, now),
    ]
    for step in steps:
        note = step(current)
        if note is not None:
            current = replace(current, marks=note.marks)
            reasons.append(note.reason)
            announced += [note.event] if note.event else []
    given_up = _given_up(deployment, current, observed, now)
    announced = [*given_up.announcements, *announced]
    if not reasons:
        return Course(current, given_up.apply, tuple(announced), room)
    manifest = children.restated_revision(deployment, current, number, current.marks)
    told = Apply(manifest, " ".join(reasons), create=False)
    return Course(current, (*given_up.apply, told), tuple(announced), room)


def _room(deployment: LLMDeployment, candidate: Revision, observed: Observed, now: datetime) -> Placing:
    """How the candidate gets on, or, where it does not look for room, the revision that has to be whole before it."""
    own = placing(deployment, candidate, observed, now)
    if own is not GOING_ON:
        return own
    stable = stable_revision(candidate, candidate.marks.rollout, observed)
    if stable is None:
        return own
    ordered = replace(stable, marks=replace(stable.marks, ordered=candidate.marks.ordered))
    found = placing(deployment, ordered, observed, now)
    if observed.ready(candidate.hash) and not observed.ready(stable.hash) and found.move not in (Move.GO_ON, Move.WAIT):
        # What alone serves is not stopped for what it is compared with, whatever is allowed.
        return replace(found, move=Move.REFUSE)
    return found


def _rolled(
    deployment: LLMDeployment,
    current: Revision,
    number: int,
    reasons: list[str],
    announced: list[EventNote],
    state: RolloutState,
    observed: Observed,
    config: OperatorConfig,
    room: Placing,
    now: datetime,
    cleared: bool,
) -> Course:
    """The course of a candidate whose rollout is judged."""
    going = rolling(deployment, current, state, observed, config, room, now, cleared=cleared)
    given_up = _given_up(deployment, current, observed, now)
    events = [*given_up.announcements, *announced, *going.conduct.step.events]
    marks = going.marks
    if marks.rollout != current.marks.rollout:
        reasons.append(f"The rollout of revision {current.hash} is in phase {going.state.phase.value}.")
    elif marks.comparison != current.marks.comparison:
        reasons.append(f"Noting what was counted of revision {current.hash} and of the one that serves.")
    elif marks.golden != current.marks.golden:
        reasons.append(f"Noting what golden questions told of revision {current.hash} and of the one that serves.")
    ordered = _ordered(replace(current, marks=replace(marks, verdict=None)), room, now)
    if ordered is not None and going.state.phase is not Phase.PROMOTED:
        marks = replace(marks, ordered=ordered.marks.ordered)
        reasons.append(ordered.reason)
        events += [ordered.event] if ordered.event else []
    current = replace(current, marks=marks)
    if not reasons:
        return Course(current, given_up.apply, tuple(events), room, going)
    manifest = children.restated_revision(deployment, current, number, marks)
    told = Apply(manifest, " ".join(reasons), create=False)
    return Course(current, (*given_up.apply, told), tuple(events), room, going)


def _fresh(marks: Marks, now: datetime) -> Marks:
    """A try that begins now: an earlier verdict and an earlier order do not count."""
    return replace(marks, started=now, ordered=None, verdict=None, rollout=None, comparison=None, golden=None)


def _pinned(revision: Revision, observed: Observed) -> _Note | None:
    if revision.digest is not None:
        return None
    digest = _running_digest(revision, observed)
    if digest is None:
        return None
    reason = f"Pinning revision {revision.hash} to the image {digest}."
    return _Note(replace(revision.marks, digest=digest), reason)


def _running_digest(revision: Revision, observed: Observed) -> str | None:
    """The digest that the first pod runs: it identifies the image where no registry could name one before."""
    for pod in observed.engine_pods(revision.hash):
        engine = pod.container(names.ENGINE_CONTAINER)
        _, found, digest = (engine.image_id if engine else "").rpartition("@")
        if found and digest.startswith("sha256:"):
            return digest
    return None


def _retried(deployment: LLMDeployment, revision: Revision, now: datetime) -> _Note | None:
    verdict = revision.marks.verdict
    if verdict is None or deployment.retry is None or deployment.retry == verdict.retry:
        return None
    reason = f"Trying revision {revision.hash} again, as the annotation {names.ANNOTATION_RETRY} asks."
    marks = replace(_fresh(revision.marks, now), proven=None)
    return _Note(marks, reason, EventNote("Normal", "Retrying", reason))


def _proven(deployment: LLMDeployment, revision: Revision, observed: Observed, now: datetime) -> _Note | None:
    owner, wanted, marks = observed.replica_set(revision.hash), deployment.spec.replicas, revision.marks
    if not marks.under_way or marks.verdict is not None or owner is None or wanted == 0:
        return None
    if owner.replicas != wanted or min(owner.ready, observed.ready(revision.hash)) < wanted:
        return None
    if changed_pods(deployment, revision, observed):
        return None
    reason = f"Revision {revision.hash} has served in full."
    return _Note(replace(marks, proven=now, started=None, ordered=None, rollout=None), reason)


def _judged(deployment: LLMDeployment, revision: Revision, observed: Observed, now: datetime) -> _Note | None:
    if revision.marks.verdict is not None:
        return None
    verdict = judge(deployment, revision, observed, now)
    if verdict is None:
        return None
    cause = told(verdict)
    reason = f"Revision {revision.hash} has failed ({cause.reason}); revision {verdict.returned_to} serves again."
    event = EventNote("Warning", "RolledBack", cause.message, why=cause.reason)
    return _Note(replace(revision.marks, verdict=verdict), reason, event)


def _ordered(revision: Revision, room: Placing, now: datetime) -> _Note | None:
    order = {Move.IN_PLACE: Order.IN_PLACE, Move.OUTAGE: Order.OUTAGE}.get(room.move)
    if order is None or revision.marks.verdict is not None or room.cause is None:
        return None
    event = EventNote(
        "Warning" if order is Order.OUTAGE else "Normal",
        "OutageBegins" if order is Order.OUTAGE else "ReplacingInPlace",
        room.cause.message,
    )
    reason = f"Revision {revision.hash} replaces others {'with an outage' if order is Order.OUTAGE else 'in place'}."
    return _Note(replace(revision.marks, ordered=Ordered(order, now)), reason, event)
