"""The hall by itself, case by case."""

from typing import Any

from nightshift.core.gateway.holding import MOST_FORWARDS, OVERHEAD_BYTES
from nightshift.core.gateway.refusals import Refusal, Why
from nightshift.core.gateway.starts import Starts
from nightshift.gateway.hall import Hall, Notes, Phase
from nightshift.gateway.line import Ticket
from tests.gateway.guests import Guest
from tests.gateway.states import KEY, state


class Log(Notes):
    def __init__(self) -> None:
        self.phases: list[tuple[Phase, float]] = []
        self.refusals: list[tuple[str, Why]] = []

    def refused(self, key: str, why: Why) -> None:
        self.refusals.append((key, why))

    def cold_start(self, key: str, phase: Phase, seconds: float) -> None:
        self.phases.append((phase, seconds))


def hall(**given: Any) -> Hall:
    found = Hall(budget=2**30, notes=Log())
    found.observe({KEY: state(**given)}, written=0.0, now=0.0)
    return found


def guest(of: Hall, now: float = 0.0, key: str = KEY) -> Guest:
    ticket = of.enter(key, 0, now)
    assert isinstance(ticket, Ticket)
    return Guest(of, ticket)


def refused(of: Hall, now: float = 0.0, key: str = KEY, announced: int = 0) -> Refusal:
    found = of.enter(key, announced, now)
    assert isinstance(found, Refusal)
    return found


def phases(of: Hall) -> list[tuple[Phase, float]]:
    assert isinstance(of._notes, Log)
    return of._notes.phases


def see(of: Hall, now: float, written: float | None = None, **given: Any) -> None:
    of.observe({KEY: state(**given)}, written=now if written is None else written, now=now)


def test_they_go_on_one_after_the_other_in_the_order_in_which_they_were_complete() -> None:
    it = hall()
    slow, first, second = guest(it), guest(it).join(), guest(it).join()
    slow.join()
    see(it, 30.0, usable=1)
    assert [one.released for one in (first, second, slow)] == [True, False, False]
    it.handed_over(first.ticket, 30.0)
    assert [one.released for one in (first, second, slow)] == [True, True, False]
    it.handed_over(second.ticket, 30.0)
    assert slow.released


def test_haproxy_that_takes_its_time_holds_the_next_one_up_for_a_second_only() -> None:
    it = hall()
    first, second = guest(it).join(), guest(it).join()
    see(it, 30.0, usable=1)
    it.tick(30.9)
    assert first.released
    assert not second.released
    it.tick(31.0)
    assert second.released


def test_no_more_go_on_than_replicas_take_and_the_next_when_one_is_over() -> None:
    it = hall()
    guests = [guest(it).join() for _ in range(4)]
    see(it, 30.0, usable=1, capacity=2)
    for one in guests[:2]:
        it.handed_over(one.ticket, 30.0)
    assert [one.released for one in guests] == [True, True, False, False]
    it.answered(guests[1].ticket, 31.0)
    it.leave(guests[1].ticket, 32.0)
    assert [one.released for one in guests] == [True, True, True, False]


def test_what_others_have_in_flight_is_left_to_them_and_ours_is_not_counted_twice() -> None:
    it = hall()
    guests = [guest(it).join() for _ in range(4)]
    see(it, 30.0, usable=1, capacity=4, in_flight=2)
    for one in guests[:2]:
        it.handed_over(one.ticket, 30.0)
    assert [one.released for one in guests] == [True, True, False, False]
    see(it, 31.0, usable=1, capacity=4, in_flight=3)  # two of them ours
    assert [one.released for one in guests] == [True, True, True, False]


def test_a_count_of_requests_in_flight_that_nobody_renews_holds_nobody_up_for_ever() -> None:
    it = hall()
    one = guest(it).join()
    see(it, 30.0, usable=1, capacity=4, in_flight=4)
    it.tick(39.9)
    assert not one.released
    it.tick(40.1)
    assert one.released


def test_a_client_that_leaves_frees_its_place_and_bytes_and_the_wake_goes_on() -> None:
    it = hall(cap=1)
    one = guest(it).join()
    assert refused(it).why is Why.QUEUE_FULL
    it.leave(one.ticket, 10.0)
    assert it.used == 0
    assert list(it.awake(24.9)) == [KEY]
    assert list(it.awake(25.0)) == []
    assert guest(it, 10.0).join(10.0).told == []


def test_one_that_could_not_be_handed_over_stands_in_front_and_is_given_up_after_three_tries() -> None:
    it = hall()
    first, second = guest(it).join(), guest(it).join()
    see(it, 30.0, usable=1, capacity=1)
    now = 30.0
    for _ in range(MOST_FORWARDS - 1):
        assert it.may_come_back(first.ticket)
        assert it.come_back(first.ticket, first.told.append, now) is None
        assert first.told.count(None) == first.ticket.forwards
        now += 5.0
        it.tick(now)
        assert first.released
        assert not second.released
    refusal = it.come_back(first.ticket, first.told.append, now)
    assert refusal is not None
    assert refusal.why is Why.NOT_FORWARDED
    it.tick(now)
    assert second.released


def test_nothing_is_released_for_a_while_after_one_could_not_be_handed_over() -> None:
    it = hall(usable=1)
    one = guest(it).join()
    it.come_back(one.ticket, one.told.append, 0.0)
    it.tick(0.4)
    assert one.told == [None]
    it.tick(0.5)
    assert one.told == [None, None]


def test_a_start_that_fails_is_told_to_all_at_once_and_to_who_comes_later_who_still_count_as_demand() -> None:
    it = hall()
    guests = [guest(it).join() for _ in range(3)]
    see(it, 30.0, start={"failure": {"reason": "NoGpuCapacity", "message": "None is free."}})
    for one in guests:
        assert [told and told.why for told in one.told] == [Why.START_FAILED]
    assert it.used == 0
    assert refused(it, 50.0).why is Why.START_FAILED
    assert list(it.awake(64.9)) == [KEY]


def test_a_deployment_that_goes_away_or_off_ends_the_waiting_and_off_is_no_demand() -> None:
    it = hall()
    one, other = guest(it).join(), guest(it)
    see(it, 30.0, state="Off")
    assert [told and told.why for told in one.told] == [Why.OFF]
    refusal = it.join(other.ticket, other.told.append, 31.0)
    assert refusal is not None
    assert refusal.why is Why.OFF
    assert refused(it, 100.0).why is Why.OFF
    assert list(it.awake(100.0)) == []
    it.observe({}, 101.0, 101.0)
    assert refused(it, 102.0).why is Why.UNKNOWN_ROUTE
    assert list(it.lines()) == []


def test_a_start_is_measured_from_the_first_that_waited_and_learned() -> None:
    it = hall()
    one, two = guest(it, 10.0).join(10.0), guest(it, 20.0).join(20.0)
    see(it, 92.0, usable=1)
    it.handed_over(one.ticket, 92.1)
    it.answered(one.ticket, 93.0)
    it.answered(two.ticket, 94.0)
    assert [(phase, round(seconds, 3)) for phase, seconds in phases(it)] == [
        ("start", 82.0),
        ("release", 0.1),
        ("first_byte", 1.0),
    ]
    assert it.demand(KEY, 95.0).starts == Starts((82.0,))
    see(it, 200.0)
    it.leave(guest(it, 210.0).join(210.0).ticket, 215.0)
    again = guest(it, 220.0).join(220.0)
    for _ in range(199):
        guest(it, 220.0)
    assert refused(it, 230.0).retry_after == 62, "82 s, of which 20 s are over since the first of this start waited"
    assert again.told == []


def test_a_start_that_nobody_waits_for_any_more_is_not_measured() -> None:
    it = hall()
    it.leave(guest(it, 0.0).join(0.0).ticket, 5.0)
    it.tick(21.0)
    see(it, 500.0, usable=1)
    assert phases(it) == []


def test_what_an_earlier_process_knew_is_taken_over_and_gives_way_to_what_this_one_sees() -> None:
    it = hall(cap=1)
    it.learn(KEY, Starts((40.0,)))
    guest(it).join()
    assert refused(it, 10.0).retry_after == 30
    see(it, 50.0, usable=1)
    it.learn(KEY, Starts((7.0,)))
    assert it.demand(KEY, 50.0).starts == Starts((40.0, 50.0))


def test_with_a_replica_up_the_queue_is_asked_about_again_soon() -> None:
    it = hall(usable=1, capacity=0, cap=1)
    guest(it).join()
    assert refused(it).retry_after == 5


def test_a_body_is_taken_from_the_budget_as_it_arrives_and_not_as_it_is_announced() -> None:
    it = Hall(budget=2 * OVERHEAD_BYTES + 1000)
    it.observe({KEY: state()}, 0.0, 0.0)
    assert refused(it, announced=OVERHEAD_BYTES + 1001).why is Why.NO_MEMORY
    one, two = guest(it), guest(it)
    assert it.grow(one.ticket, 1000, 0.0) is None
    refusal = it.grow(two.ticket, 1, 0.0)
    assert refusal is not None
    assert refusal.why is Why.NO_MEMORY
    assert it.used == OVERHEAD_BYTES + 1000
    it.join(one.ticket, one.told.append, 0.0)
    see(it, 1.0, usable=1)
    it.answered(one.ticket, 2.0)
    assert it.used == 0, "an answer that began cannot come back"


def test_a_body_in_chunks_over_the_limit_is_refused_when_it_gets_there() -> None:
    it = hall(limits={"bodyBytes": 100})
    one = guest(it)
    assert it.grow(one.ticket, 100, 0.0) is None
    refusal = it.grow(one.ticket, 1, 0.0)
    assert refusal is not None
    assert refusal.why is Why.TOO_LARGE


def test_at_the_end_those_who_heard_nothing_go_elsewhere_and_the_others_wait_on() -> None:
    it = hall()
    silent, begun, coming = guest(it).join(), guest(it).join(), guest(it)
    begun.ticket.begun = True
    it.stop(10.0)
    assert [told and told.why for told in silent.told] == [Why.STOPPING]
    assert begun.told == []
    assert refused(it).why is Why.STOPPING
    assert it.join(coming.ticket, coming.told.append, 10.0) is not None
    it.close(20.0)
    assert [told and told.why for told in begun.told] == [Why.STOPPING]
    assert it.used == 0
