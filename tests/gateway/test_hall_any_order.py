"""The hall by itself, in any order of arrivals, departures, releases, failures and time passing."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from nightshift.core.gateway.holding import MOST_FORWARDS, OVERHEAD_BYTES
from nightshift.core.gateway.refusals import Refusal
from nightshift.gateway.hall import Hall
from nightshift.gateway.line import Stage
from tests.gateway.guests import Guest
from tests.gateway.states import KEY, state

OTHER = "ml/other"
BUDGET = 8 * OVERHEAD_BYTES
CAP = 4


class AnyOrder(RuleBasedStateMachine):
    """Clients come, send, leave; replicas come and go; answers begin, fail, end; time passes."""

    inside: Bundle[Guest] = Bundle("inside")

    @initialize()
    def open(self) -> None:
        self.now = 0.0
        self.hall = Hall(BUDGET)
        self.guests: list[Guest] = []
        self.order: dict[Guest, int] = {}
        """In which order they were complete."""
        self.see(KEY, 0, 0, None)
        self.see(OTHER, 0, 0, None)

    def see(self, key: str, usable: int, capacity: int, in_flight: int | None, **route: Any) -> None:
        self.routes = {**getattr(self, "routes", {})}
        self.routes[key] = state(
            key, usable=usable, capacity=capacity, in_flight=in_flight, cap=CAP, timeout=60, **route
        )
        self.hall.observe(self.routes, self.now, self.now)

    def held(self, key: str) -> int:
        return sum(one.ticket.key == key and one.at(Stage.ARRIVING, Stage.WAITING) for one in self.guests)

    @rule(target=inside, key=st.sampled_from([KEY, OTHER]), announced=st.integers(0, BUDGET))
    def enter(self, key: str, announced: int) -> Any:
        before, held = self.hall.used, self.held(key)
        found = self.hall.enter(key, announced, self.now)
        if isinstance(found, Refusal):
            assert self.hall.used == before, "who is refused costs nothing"
            return multiple()
        assert held < CAP
        one = Guest(self.hall, found)
        self.guests.append(one)
        return one

    @rule(target=inside, key=st.sampled_from([KEY, KEY, OTHER]))
    def arrive(self, key: str) -> Any:
        """Enter and be complete at once, as most requests."""
        found = self.hall.enter(key, 0, self.now)
        if isinstance(found, Refusal):
            return multiple()
        one = Guest(self.hall, found)
        self.guests.append(one)
        self.join(one)
        return one

    def telling(self, one: Guest) -> Callable[[Refusal | None], None]:
        """What a guest is told, judged at that moment."""

        def told(verdict: Refusal | None) -> None:
            one.told.append(verdict)
            if verdict is None:
                line = [other for other in self.guests if other is not one and other.ticket.key == one.ticket.key]
                behind = [self.order[other] for other in line if other.at(Stage.WAITING)]
                assert not behind or self.order[one] < min(behind), "nobody overtakes"
                own = sum(other.at(Stage.RELEASED, Stage.SENT, Stage.ANSWERING) for other in line)
                assert own < self.routes[one.ticket.key].capacity, "no more than the replicas take"

        return told

    @rule(one=inside, size=st.integers(1, OVERHEAD_BYTES))
    def grow(self, one: Guest, size: int) -> None:
        if one.at(Stage.ARRIVING) and self.hall.grow(one.ticket, size, self.now) is not None:
            assert one.at(Stage.GONE)

    @rule(one=inside)
    def join(self, one: Guest) -> None:
        if one.at(Stage.ARRIVING):
            self.order[one] = len(self.order)
            refusal = self.hall.join(one.ticket, self.telling(one), self.now)
            assert (refusal is not None) == (one.at(Stage.GONE))

    @rule(one=consumes(inside))
    def leave(self, one: Guest) -> None:
        told = len(one.told)
        self.hall.leave(one.ticket, self.now)
        self.hall.leave(one.ticket, self.now)
        assert one.at(Stage.GONE)
        assert len(one.told) == told, "who left is told nothing"

    @rule(one=inside)
    def handed_over(self, one: Guest) -> None:
        if one.at(Stage.RELEASED, Stage.SENT):
            self.hall.handed_over(one.ticket, self.now)

    @rule(one=inside)
    def answered(self, one: Guest) -> None:
        if one.at(Stage.RELEASED, Stage.SENT):
            self.hall.answered(one.ticket, self.now)
            assert one.ticket.size == 0

    @rule(one=inside)
    def failed(self, one: Guest) -> None:
        if one.at(Stage.RELEASED, Stage.SENT):
            refusal = self.hall.come_back(one.ticket, self.telling(one), self.now)
            assert (refusal is not None) == (one.at(Stage.GONE))
            assert one.ticket.forwards <= MOST_FORWARDS

    @rule(one=inside)
    def expired(self, one: Guest) -> None:
        if one.at(Stage.WAITING) and self.now >= self.hall.deadline(one.ticket):
            told = len(one.told)
            assert self.hall.expire(one.ticket, self.now).status == 503
            assert len(one.told) == told

    @rule(
        key=st.sampled_from([KEY, OTHER]),
        usable=st.integers(0, 2),
        capacity=st.integers(0, 5),
        in_flight=st.none() | st.integers(0, 6),
        route=st.sampled_from([{}, {}, {}, {"state": "Off"}, {"start": {"failure": {"reason": "EngineCrashed"}}}]),
    )
    def observe(self, key: str, usable: int, capacity: int, in_flight: int | None, route: dict[str, Any]) -> None:
        self.see(key, usable, capacity, in_flight, **route)

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0, 11.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.hall.tick(self.now)

    @invariant()
    def the_budget_is_kept_and_exact(self) -> None:
        if hasattr(self, "hall"):
            assert self.hall.used == sum(one.ticket.size for one in self.guests)
            assert 0 <= self.hall.used <= BUDGET

    @invariant()
    def everybody_is_told_once_for_each_time_of_waiting(self) -> None:
        for one in getattr(self, "guests", []):
            releases, refusals = one.told.count(None), len(one.told) - one.told.count(None)
            assert releases == one.ticket.forwards
            assert refusals <= 1
            if refusals:
                assert one.at(Stage.GONE)
                assert one.told[-1] is not None

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Nobody who may go on stays: with room, with nobody being handed over and no pause, the line is empty."""
        if not hasattr(self, "hall"):
            return
        for _, line in self.hall.lines():
            assert line.waiting == sum(one.ticket.key == line.key and one.at(Stage.WAITING) for one in self.guests)
            free = (
                line.state is not None
                and line.state.usable_servers
                and line.state.capacity > len(line.own) + line.others
            )
            if free and line.handing_over is None and self.now >= line.still_until:
                assert not line.waiting

    def teardown(self) -> None:
        """With time and a large enough replica everybody is served."""
        if not hasattr(self, "hall"):
            return
        for key in (KEY, OTHER):
            self.see(key, 1, 1000, None)
        for _ in range(len(self.guests) + 1):
            for one in self.guests:
                if one.at(Stage.ARRIVING):
                    self.join(one)
                self.handed_over(one)
            self.time_passes(2.0)
        assert not [one for one in self.guests if one.at(Stage.ARRIVING, Stage.WAITING)]
        for one in self.guests:
            self.hall.leave(one.ticket, self.now)
        assert self.hall.used == 0


ORDERS = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_in_any_order_nobody_overtakes_nobody_is_forgotten_and_limits_are_kept() -> None:
    run_state_machine_as_test(AnyOrder, settings=ORDERS)
