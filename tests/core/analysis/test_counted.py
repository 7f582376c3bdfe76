"""What gateway pods and engines have counted of a revision, and why it is not known."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift.api.comparison import Counted, Times
from nightshift.api.demand import GatewayDemand, RevisionResults, RouteDemand
from nightshift.core.analysis.counted import counters
from nightshift.core.analysis.evidence import Histogram
from nightshift.core.autoscale.demand import GatewaySight
from nightshift.core.engine_metrics import EngineDetails, EngineMetrics
from nightshift.core.engine_sight import EngineSight
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.observed import Observed, engine_start
from tests.core.test_hung import REVISION, observed
from tests.support.builders import NOW
from tests.support.fake_engines import metrics

ROUTE = "ml/bot"
HASH = REVISION.hash
BEGAN = NOW - timedelta(hours=1)
RESULTS = RevisionResults(
    since=BEGAN, ok=90, client_error=5, server_error=3, refused=7, left=4, cut=2, first_byte=(1, 2), total=(60, 30)
)
DETAILS = EngineDetails(
    first_token=Histogram((0.5, 1.0), (1, 2, 3)), finished={"stop": 6, "abort": 0}, inference_seconds=30.0
)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def answer(
    results: Mapping[str, RevisionResults] | None = None, route: str = ROUTE, old: float = 1
) -> Known[GatewayDemand]:
    revisions = {HASH: RESULTS} if results is None else dict(results)
    told = GatewayDemand(
        written=ago(old), pod="gw-1", routes={route: RouteDemand(revisions=revisions)}, total_bounds=(0.5,)
    )
    return Known(told, ago(old))


def counted(fact: Fact[Counted]) -> Counted:
    assert isinstance(fact, Known), fact
    return fact.value


def seen(states: str, sights: Mapping[str, EngineSight | None] | None = None, **more: Any) -> Observed:
    found = observed(states, **more)
    engines = {**found.engines, **(sights or {})}
    return replace(found, engines={pod: sight for pod, sight in engines.items() if sight is not None})


def start(letter: str) -> str:
    return next(f"{engine_start(pod)}" for pod in observed("ssss").pods if pod.name == f"bot-{letter}")


def sight(reading: EngineMetrics, old: float = 10, **more: Any) -> EngineSight:
    last = Known(reading, ago(old))
    return EngineSight(start("a"), **{"metrics": last, "last": last, "still_since": ago(old), **more})


def test_of_a_gateway_pod_what_the_engines_ended_counts_and_what_it_refused_itself_does_not() -> None:
    found = counters(ROUTE, HASH, Observed(gateway=GatewaySight({"gw-1": answer()})), NOW)
    told = counted(found.gateways["gw-1"])
    sums = told.sums
    assert (sums.requests, sums.failed, sums.left) == (100, 5, 4)
    assert sums.total == Times(bounds=(0.5,), counts=(60, 30))
    assert (told.since, told.at, told.serving) == (BEGAN, ago(1), None)
    assert (found.unlisted, found.stalled) == ("", None)


def test_a_request_that_was_answered_at_another_try_failed_once_and_was_asked_once() -> None:
    results = RevisionResults(since=BEGAN, ok=97, client_error=2, server_error=1, retried=5)
    found = counters(ROUTE, HASH, Observed(gateway=GatewaySight({"gw-1": answer({HASH: results})})), NOW)
    sums = counted(found.gateways["gw-1"]).sums
    assert (sums.requests, sums.failed) == (100, 6)


@pytest.mark.parametrize(
    ("gateway", "why"),
    [
        pytest.param(Unknown("silence"), "Gateway pod gw-1 does not say: silence", id="it is silent"),
        pytest.param(answer(old=11), "has told nothing new since 11:59:49 UTC", id="what it said is old"),
        pytest.param(answer(route="ml/other"), "does not know ml/bot yet", id="it does not know the deployment"),
        pytest.param(answer({}), "older version", id="it tells no results, as an older gateway"),
        pytest.param(answer({"other": RESULTS}), f"revision {HASH} ended", id="it has no slot for the revision yet"),
    ],
)
def test_a_gateway_pod_that_does_not_say_is_unknown(gateway: Fact[GatewayDemand], why: str) -> None:
    found = counters(ROUTE, HASH, Observed(gateway=GatewaySight({"gw-1": gateway})), NOW).gateways["gw-1"]
    assert isinstance(found, Unknown)
    assert why in found.reason


@pytest.mark.parametrize(
    ("gateway", "why"),
    [
        pytest.param(None, "were not asked yet", id="nobody was asked"),
        pytest.param(GatewaySight(pods_unknown="Nobody knows."), "Nobody knows.", id="it was not listed"),
    ],
)
def test_which_gateway_pods_there_are_may_be_unknown(gateway: GatewaySight | None, why: str) -> None:
    assert why in counters(ROUTE, HASH, Observed(gateway=gateway), NOW).unlisted


def test_times_that_do_not_fit_their_bounds_are_left_out() -> None:
    odd = RESULTS.model_copy(update={"total": (1, 2, 3)})
    found = counters(ROUTE, HASH, Observed(gateway=GatewaySight({"gw-1": answer({HASH: odd})})), NOW)
    assert counted(found.gateways["gw-1"]).sums.total == Times()


def test_of_an_engine_its_present_start_counts() -> None:
    reading = metrics(generation_tokens=800, preemptions=9, details=DETAILS)
    found = counters(ROUTE, HASH, seen("s", {"bot-a": sight(reading)}), NOW)
    assert list(found.engines) == [start("a")]
    told = counted(found.engines[start("a")])
    sums = told.sums
    assert (sums.generation_tokens, sums.preemptions, sums.finished, sums.inference_seconds) == (
        800,
        9,
        {"stop": 6},
        30,
    )
    assert (sums.first_token, sums.inter_token) == (Times(bounds=(0.5, 1.0), counts=(1, 2, 3)), Times())
    assert told.at == ago(10)
    assert told.serving is not None
    assert told.serving >= told.since


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        pytest.param(None, "was not read yet.", id="never read"),
        pytest.param(EngineSight(start("a"), Unknown("refused")), "was not read yet: refused", id="it does not answer"),
        pytest.param(sight(metrics()), "in detail yet", id="read before revisions were compared"),
        pytest.param(sight(metrics(details=DETAILS), old=91), "since 11:58:29 UTC", id="read long ago"),
        pytest.param(replace(sight(metrics(details=DETAILS)), start="other"), "not read yet", id="another start of it"),
    ],
)
def test_an_engine_that_was_not_read_is_unknown(engine: EngineSight | None, why: str) -> None:
    found = counters(ROUTE, HASH, seen("s", {"bot-a": engine}), NOW).engines[start("a")]
    assert isinstance(found, Unknown)
    assert why in found.reason
    assert "bot-a" in found.reason


def test_one_reading_that_did_not_come_is_no_matter() -> None:
    known = sight(metrics(details=DETAILS), metrics=Unknown("refused"))
    counted(counters(ROUTE, HASH, seen("s", {"bot-a": known}), NOW).engines[start("a")])


def test_an_engine_that_runs_and_is_not_ready_rests_and_another_revisions_is_none() -> None:
    found = counters(ROUTE, HASH, seen("sw"), NOW)
    assert (list(found.engines), list(found.resting)) == ([start("a")], [start("b")])
    assert "Pod bot-b is not ready" in found.resting[start("b")]
    other = counters(ROUTE, "other", seen("sw"), NOW)
    assert (other.engines, other.resting) == ({}, {})


BUSY_AND_STILL = sight(metrics(running=2), old=0, still_since=ago(61))
BUSY_AND_ASKED = replace(BUSY_AND_STILL, still_since=ago(95), unanswered=1, asked_at=ago(1))
BUSY_AND_HUNG = replace(BUSY_AND_STILL, still_since=ago(126), unanswered=2, asked_at=ago(1))
NEW = metrics(prompt_tokens=0, generation_tokens=0, iterations=0)
NEW_AND_STILL = sight(NEW, old=0, still_since=ago(61))
FIRST_AND_STILL = sight(replace(NEW, running=1), old=0, still_since=ago(61))
NEW_AND_HUNG = sight(NEW, old=0, still_since=ago(126), unanswered=2, asked_at=ago(1))


@pytest.mark.parametrize(
    ("states", "sights", "stalled"),
    [
        pytest.param("s", {}, False, id="it moved a moment ago"),
        pytest.param("sh", {}, True, id="one of two hangs"),
        pytest.param(
            "s", {"bot-a": BUSY_AND_STILL}, None, id="it has requests and makes no step, and is yet to be asked"
        ),
        pytest.param("s", {"bot-a": BUSY_AND_ASKED}, None, id="it left one question unanswered"),
        pytest.param("s", {"bot-a": BUSY_AND_HUNG}, True, id="it has requests and answers no question"),
        pytest.param(
            "s", {"bot-a": sight(metrics(), 0, still_since=ago(700))}, False, id="it has none and makes no step"
        ),
        pytest.param("ss", {"bot-b": None}, None, id="one was never read"),
        pytest.param("sh", {"bot-a": None}, True, id="one was never read, and another hangs"),
        pytest.param("s", {"bot-a": NEW_AND_STILL}, False, id="it never brought a token, and is only suspect"),
        pytest.param("s", {"bot-a": FIRST_AND_STILL}, None, id="it may compile for its first request"),
        pytest.param("s", {"bot-a": NEW_AND_HUNG}, True, id="it says it has none, and answers no question"),
        pytest.param("", {}, None, id="there is none"),
    ],
)
def test_whether_an_engine_came_no_further(
    states: str, sights: dict[str, EngineSight | None], stalled: bool | None
) -> None:
    assert counters(ROUTE, HASH, seen(states, sights), NOW).stalled is stalled
