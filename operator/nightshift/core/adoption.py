"""Objects of ours that lost their owner: after a restore from YAML, or `kubectl delete --cascade=orphan`.

Pins and rendered pods stand in ControllerRevisions, so what was restored must be taken up again, and not be refused
as a stranger of the same name. A stranger does not bear our marks; an object that has an owner is never taken.
"""

from nightshift.api.resource import LLMDeployment
from nightshift.core import children
from nightshift.core.observed import Observed
from nightshift.core.ownership import is_orphan
from nightshift.core.planning import Apply, Plan


def adopted_revisions(deployment: LLMDeployment, observed: Observed) -> tuple[Apply, ...]:
    """Stored revisions and pins without an owner, with their owner; their data and place in history stay."""
    pins = tuple(
        Apply(
            children.adapter_pin(deployment, item.pin),
            f"Taking up the pin of adapter {item.pin.name}, which has no owner.",
            create=False,
        )
        for item in observed.pins
        if is_orphan(item.manifest)
    )
    return pins + tuple(
        Apply(
            children.restated_revision(deployment, revision, revision.number, revision.marks),
            f"Taking up revision {revision.hash}, which has no owner.",
            create=False,
        )
        for revision in observed.revisions
        if is_orphan(revision.manifest)
    )


def adoption_message(plan: Plan, observed: Observed) -> str | None:
    """What is said when a plan took up objects without an owner; None where there were none."""
    keys = ((item.manifest["kind"], item.manifest["metadata"]["name"]) for item in plan.apply)
    taken = [f"{kind} {name}" for kind, name in dict.fromkeys(keys) if is_orphan(observed.live.get((kind, name)))]
    if not taken:
        return None
    return (
        f"Took up {', '.join(taken)}: they bear Nightshift's marks and had no owner, as after a restore. "
        "Delete them to have them made anew."
    )
