"""The operator of the fake fleet: it looks, asks the real planner, and writes one thing after the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.cause import Cause
from nightshift.core.judged.advance import Situation, advance, begin
from nightshift.core.judged.conduct import Conduct, View, conduct, gave_up, has_weight, healing, nothing_to_compare
from nightshift.core.judged.orders import last_seen, read_order
from nightshift.core.judged.phases import ACTIVE
from nightshift.core.judged.steps import UNDONE, Fleet
from nightshift.core.judged.telling import Names
from nightshift.core.marks import Order, Ordered
from nightshift.core.placing import Move
from nightshift.core.rollout import replica_counts
from tests.sim.judged.fleet import DRAIN_SECONDS, FAILURES, Deployment, Made, World, state_of

NO_ROOM = Cause("NoGpuCapacity", "No node has a free accelerator.", definite=False)
ASIDE = (*ACTIVE, Phase.ROLLING_BACK)


@dataclass(frozen=True)
class Write:
    """One write to the API server."""

    what: str
    act: Callable[[], None]


def stable_of(it: Deployment) -> Made | None:
    """The revision to return to: as `core.verdict.last_good` has it."""
    others = [made for made in it.revisions.values() if made.hash != it.target and made.verdict is None]
    ready = {pod.revision for pod in it.seen.pods if pod.serves}
    good = [made for made in others if made.proven or (made.hash in ready and made.state is None)]

    def standing(made: Made) -> int:
        tried = made.state is not None and made.state.phase is not Phase.PROMOTED
        return (0 if tried else 2) if made.proven else 1

    return max(good, key=lambda made: (standing(made), made.number), default=None)


def operate(world: World, it: Deployment) -> Iterator[Write]:
    """The writes of one reconcile, in their order; whoever stops in between was killed."""
    yield from _abandoned(world, it)
    made, stable = it.now, stable_of(it)
    if made.proven and made.state is None and made.number == max(item.number for item in it.revisions.values()):
        yield from _in_full(it, made)
        return
    state, number = _opened(world, it, made, stable)
    if stable is None:
        stable = it.revisions.get(state.stable, Made("", 0, made.fate))
    decided = conduct(
        _view(world, it, made, stable, state, fresh=state is not made.state),
        it.pace,
        Names(made.hash, stable.hash),
        world.now,
    )
    if decided.state != made.state or number != made.number:
        yield Write(f"{made.hash} is {decided.state.phase}", lambda: _noted(world, it, made, decided, number))
    move = _move(world, it, made, stable)
    order = {Move.IN_PLACE: Order.IN_PLACE, Move.OUTAGE: Order.OUTAGE}.get(move)
    if order is not None:
        yield Write(f"{made.hash} replaces {order.value}", lambda: _order(world, made, order))
        return
    asked = decided.counts
    for name in sorted(asked, key=lambda item: asked[item] > it.revisions[item].asked):
        if asked[name] != it.revisions[name].asked:
            yield Write(f"{name}: {asked[name]} replicas", partial(_ask, world, it, name, asked[name]))
    if dict(decided.shares) != it.route:
        yield Write(f"route {dict(decided.shares)}", lambda: _route(world, it, dict(decided.shares)))


def _opened(world: World, it: Deployment, made: Made, stable: Made | None) -> tuple[RolloutState, int]:
    """The state of the target's rollout, and its number; begun where the spec has just come to ask for it."""
    newest = max(item.number for item in it.revisions.values())
    last = last_seen(item.state for item in it.revisions.values() if item.state is not None)
    if made.state is not None and made.number == newest:
        return made.state, made.number
    name = stable.hash if stable is not None else ""
    return begin(name, it.steps, world.now, last), made.number if made.number == newest else newest + 1


def _view(world: World, it: Deployment, made: Made, stable: Made, state: RolloutState, *, fresh: bool) -> View:
    others = tuple(
        state_of(it, item) for item in it.revisions.values() if item.hash not in (made.hash, stable.hash) and item.asked
    )
    fleet = Fleet(it.wanted, 0 if fresh else missing(it), state_of(it, made), state_of(it, stable), others)
    failed = FAILURES[stable.fate].reason if not stable.fate.serves else ""
    short = world.move(it, made.hash) is not Move.GO_ON
    state = healing(state, fleet, failed, short=short)
    fleet = replace(fleet, gives_up=bool(state.heals) or (bool(failed) and short))
    pods = [pod for pod in it.seen.pods if pod.revision == made.hash and pod.leaving is None]
    quiet = world.now >= it.routed_at + timedelta(seconds=30)
    late = world.now >= state.since + timedelta(seconds=DRAIN_SECONDS)
    placed = any(pod.placed is not None for pod in pods)
    taken = not placed or state.phase is Phase.ROLLING_BACK
    held_up = NO_ROOM if _move(world, it, made, stable) is Move.REFUSE and taken else None
    there = stable.hash in it.revisions and stable.hash != made.hash
    proven = made.proven and (made.verdict is None or made.verdict == UNDONE)
    situation = Situation(
        wanted=it.wanted,
        ready=fleet.candidate.ready,
        ready_stable=fleet.stable.ready,
        turn=it.key in world.turns() or made.state is None,
        placed=placed,
        reached=has_weight(state, fleet, it.route),
        complete=made.asked == it.wanted and fleet.candidate.ready >= it.wanted,
        drained=gave_up(fleet, it.route, idle=quiet or late),
        stable_there=there,
        unjudged=not there or nothing_to_compare(state, fleet, proven=proven, failed=bool(failed or state.heals)),
        judgement=world.judgement(it),
        failure=world.failure(it),
        held_up=held_up,
        order=read_order(it.note, last_seen(x.state for x in it.revisions.values() if x.state is not None)),
    )
    return View(
        state, situation, fleet, settled=all(it.seen.asked.get(m.hash, 0) == m.asked for m in it.revisions.values())
    )


def missing(it: Deployment) -> int:
    """Ready replicas that may be missing, by the order that stands on the target."""
    ordered = it.now.ordered
    if ordered is None:
        return 0
    if ordered.order is Order.OUTAGE:
        state = it.now.state
        returning = state is not None and state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
        return it.wanted if it.allow_outage or returning else 0
    return 1 if it.wanted > 1 else 0


def _move(world: World, it: Deployment, made: Made, stable: Made) -> Move:
    """Of the candidate; where it does not wait for room, of the revision that has to be whole before it comes."""
    first = world.move(it, made.hash)
    return first if first is not Move.GO_ON else world.move(it, stable.hash)


def _abandoned(world: World, it: Deployment) -> Iterator[Write]:
    for made in it.revisions.values():
        if made.hash == it.target or made.state is None or made.state.phase not in ASIDE:
            continue
        situation = Situation(it.wanted, 0, 0, superseded=True)
        step = advance(made.state, situation, it.pace, Names(made.hash, made.state.stable), world.now)

        def act(made: Made = made, state: RolloutState = step.state) -> None:
            made.state, made.ordered = state, None
            if state.phase is Phase.ROLLED_BACK:
                made.verdict, made.proven = state.reason, state.reason == UNDONE and made.proven
            world.say(f"{it.key[1]}: {made.hash} is {state.phase.value}: {state.says}")

        yield Write(f"{made.hash} is {step.state.phase}", act)


def _noted(world: World, it: Deployment, made: Made, decided: Conduct, number: int) -> None:
    state, before = decided.state, made.state
    made.state = state
    if number != made.number or (before is not None and before.phase is Phase.ROLLED_BACK):
        if before is None or state.phase is not Phase.ROLLED_BACK:
            made.verdict, made.ordered = None, None
        made.number = number
    if state.phase is Phase.ROLLED_BACK:
        made.verdict, made.proven = state.reason, state.reason == UNDONE and made.proven
    if state.phase is Phase.PROMOTED:
        made.proven, made.ordered, made.verdict = True, None, None
    for event in decided.step.events:
        world.say(f"{it.key[1]}: {event.type} {event.reason}: {event.message}")


def _order(world: World, made: Made, order: Order) -> None:
    made.ordered = Ordered(order, world.now)
    world.say(f"{made.hash} replaces others {order.value}")


def _ask(world: World, it: Deployment, name: str, count: int) -> None:
    world.say(f"{it.key[1]}: {name} {it.revisions[name].asked} -> {count} replicas")
    it.revisions[name].asked = count


def _route(world: World, it: Deployment, weights: dict[str, int]) -> None:
    it.route, it.routed_at = weights, world.now
    told = ", ".join(f"{name} {weight} %" for name, weight in sorted(weights.items())) or "nobody: requests wait"
    world.say(f"{it.key[1]}: requests go to {told}")


def _in_full(it: Deployment, made: Made) -> Iterator[Write]:
    """Readiness alone: as it is without a revision that could be compared with."""
    others = [state_of(it, item) for item in it.revisions.values() if item.hash != made.hash and item.asked]
    counts = replica_counts(it.wanted, state_of(it, made), others)
    for name, count in counts.items():
        if it.revisions[name].asked != count:
            yield Write(f"{name}: {count} replicas", partial(setattr, it.revisions[name], "asked", count))
    ready = {name: sum(p.serves for p in it.seen.pods if p.revision == name) for name in it.revisions}
    total = sum(ready.values())
    weights = {name: 100 * count // total for name, count in ready.items() if count} if total else {}
    if weights:
        weights[max(weights, key=lambda name: weights[name])] += 100 - sum(weights.values())
    if weights != it.route:
        yield Write("route", lambda: setattr(it, "route", weights))
    if not made.proven and ready[made.hash] >= max(1, it.wanted):
        yield Write("proven", lambda: setattr(made, "proven", True))
