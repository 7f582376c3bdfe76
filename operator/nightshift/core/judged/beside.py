"""A candidate beside a stable revision that cannot be read, or that finds no room any more."""

from dataclasses import replace

from nightshift.api.names import revision_name
from nightshift.api.resource import LLMDeployment
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.cause import Cause
from nightshift.core.golden.jobs import over
from nightshift.core.judged.advance import Advance
from nightshift.core.judged.conduct import Conduct
from nightshift.core.judged.orders import ANNOTATION
from nightshift.core.observed import Observed
from nightshift.core.placing import Move, Placing, shortage
from nightshift.core.planning import Plan
from nightshift.core.revisions import Revision
from nightshift.core.routes import live_route, weights


def is_unread(state: RolloutState, observed: Observed) -> bool:
    """Whether the stable revision runs, and what is stored of it cannot be read: then nothing is decided by that."""
    owner = observed.replica_set(state.stable)
    known = any(item.hash == state.stable for item in observed.revisions)
    decided = state.phase in (Phase.PROMOTING, Phase.PROMOTED, Phase.ABANDONED)
    return bool(state.stable) and not known and owner is not None and owner.replicas > 0 and not decided


def held(deployment: LLMDeployment, target: Revision, state: RolloutState, observed: Observed) -> tuple[Conduct, Plan]:
    """A rollout that stays as it is, with its replicas and its route, until a person helps or orders something."""
    message = (
        f"ControllerRevision {revision_name(deployment.name, state.stable)} cannot be read, and its replicas serve: "
        f"nothing is decided on revision {target.hash} meanwhile. Restore it, as from a backup; or set the annotation "
        f"{ANNOTATION} to promote, with who asks and why."
    )
    route, known = live_route(deployment, observed), {target.hash, *(item.hash for item in observed.revisions)}
    ready = {item.revision: observed.ready(item.revision) for item in observed.replica_sets}
    told = {item.hash: item.weight for item in route.revisions if item.weight} if route is not None else {}
    shares = told if told and all(ready.get(name) for name in told) else weights(ready, state.stable)
    counts = {item.revision: item.replicas for item in observed.replica_sets if item.revision in known}
    blocker = Cause("RevisionUnreadable", message, definite=True)
    return Conduct(Advance(state), counts, shares), replace(over(observed), blocker=blocker)


def alone(target: Revision, stable: Revision, observed: Observed, room: Placing) -> Cause | None:
    """Why the stable revision does not find room beside a candidate that is ready, and will not by waiting."""
    short = shortage(observed, stable.hash)
    if room.move is not Move.REFUSE or short is None or shortage(observed, target.hash) is not None:
        return None
    there = any(pod.node is not None or pod.containers for pod in observed.engine_pods(stable.hash))
    if there or observed.ready(stable.hash) or not observed.ready(target.hash):
        return None
    message = (
        "There is nothing to compare it with, as no replica of the stable revision finds room beside it. "
        f"{short[0].message} Add an accelerator and order resume; or set rollout.allowOutage to true and order resume, "
        "and it takes over as soon as it is ready; or order promote"
    )
    return Cause(short[0].reason, message, definite=False)
