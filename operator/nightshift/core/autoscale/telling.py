"""What is told of scaling: a condition, and how a deployment reads of which no replica runs since nobody asks."""

from collections.abc import Iterable

from nightshift.api.conditions import Condition, Verdict
from nightshift.core.planning import Scaling
from nightshift.core.revisions import Revision

CONDITION = "ScalingLimited"

IDLE = "Idle"
"""Reason of Ready and Available while no replica runs because nobody asks."""


def condition(scaling: Scaling | None, previous: Iterable[Condition]) -> Verdict | None:
    """Whether something keeps the number of replicas from following the demand; None where it is not ours to decide.

    That the demand is not known is told after two minutes only; a new process does not take it back meanwhile.
    """
    if scaling is None:
        return None
    before = next((item for item in previous if item.type == CONDITION), None)
    if scaling.limited is not None:
        reason, message = scaling.limited.reason, scaling.limited.message
        return Verdict(type=CONDITION, status="True", reason=reason, message=message)
    unsure = scaling.demand.load.at_most is None and scaling.replicas > 0
    if unsure and before is not None and before.reason == "DemandUnknown":
        return Verdict(type=CONDITION, status="True", reason=before.reason, message=before.message)
    wanted = "No replica runs" if scaling.replicas == 0 else f"Replicas: {scaling.replicas}"
    message = f"{wanted}, as the demand needs. Why it was last changed: {scaling.reason}"
    return Verdict(type=CONDITION, status="False", reason="NotLimited", message=message)


def idle(revision: Revision) -> str:
    """What Ready says of a proven deployment at zero."""
    version = revision.resolved.engine_version
    return (
        "No replica runs, since nobody asks: the next request through the gateway starts one, and is held until it "
        f"serves. Revision {revision.hash} with vLLM {version} has served before. To keep one running set "
        "scaling.minReplicas to 1."
    )
