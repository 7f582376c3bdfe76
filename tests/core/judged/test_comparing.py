"""What is noted of a comparison, when its windows end, and what it comes to."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift.api.demand import GatewayDemand, RevisionResults, RouteDemand
from nightshift.api.evaluation import GoldenSetRef
from nightshift.api.golden_run import GoldenRun
from nightshift.api.rollout import Phase, RolloutState
from nightshift.api.tally import LoadTally
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.analysis.verdict import Judgement, Verdict
from nightshift.core.autoscale.demand import GatewaySight
from nightshift.core.engine_metrics import EngineDetails
from nightshift.core.engine_sight import looked
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.golden.jobs import kept_of
from nightshift.core.golden.outcome import packed, with_run
from nightshift.core.judged.comparing import Asked, Compared, compare, is_comparing, is_watched, pairing_of
from nightshift.core.judged.steps import NO_EVIDENCE
from nightshift.core.marks import read_marks
from nightshift.core.observed import Observed, engine_start
from nightshift.core.revisions import Revision
from tests.support.builders import NOW, container, model_spec, pod, revision
from tests.support.evidence import ALIKE
from tests.support.fake_engines import metrics

STABLE = revision(number=1)
CANDIDATE = revision(model_spec(engine={"version": "0.33.0"}), number=2)
LONG_AGO = NOW - timedelta(hours=3)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def results(count: int, failed: int = 0) -> RevisionResults:
    times = (count - failed, 0)
    return RevisionResults(since=LONG_AGO, ok=count - failed, server_error=failed, first_byte=times, total=times)


def seen(stable: int, candidate: int, failed: int = 0, at: float = 0) -> Observed:
    """One gateway pod that has counted so many requests of each by then."""
    revisions = {STABLE.hash: results(stable), CANDIDATE.hash: results(candidate, failed)}
    told = GatewayDemand(
        written=later(at), pod="gw", routes={"ml/bot": RouteDemand(revisions=revisions)}, total_bounds=(10.0,)
    )
    return Observed(gateway=GatewaySight({"gw": Known(told, later(at))}))


READY = pod(
    CANDIDATE.hash,
    ready=True,
    ip="10.0.0.3",
    phase="Running",
    owner="uid-of-set",
    containers=(container(ready=True, running_since="2026-03-01T11:00:00Z"),),
)
OWNED = {("ReplicaSet", "bot-set"): {"metadata": {"uid": "uid-of-set"}}}
SIGHT = looked(None, f"{engine_start(READY)}", Known(metrics(details=EngineDetails()), NOW))
SILENT = Observed(gateway=GatewaySight({"gw": Unknown("it was silent.")}))


def state(**more: Any) -> RolloutState:
    values: dict[str, Any] = {"phase": Phase.JUDGING, "since": NOW, "judging_since": NOW, "stable": STABLE.hash}
    return RolloutState(**(values | more))


def look(candidate: Revision, observed: Observed, at: float, **more: Any) -> Compared:
    where = more.pop("state", state())
    return compare("ml/bot", candidate, STABLE, where, observed, later(at), stable_name="0.31.0", **more)


def noted(compared: Compared, candidate: Revision = CANDIDATE, *, changes: bool = False) -> Revision:
    """The candidate with what was written and read again."""
    found = compared.at_change if changes else compared.noted
    marks = replace(candidate.marks, comparison=found)
    return replace(candidate, marks=read_marks(marks.annotations()))


def judgement(fact: Fact[Judgement]) -> Judgement:
    assert isinstance(fact, Known), fact
    return fact.value


def begun(**more: Any) -> Revision:
    return noted(look(CANDIDATE, seen(1000, 0), 0, **more))


def asked(candidate: Revision) -> tuple[int, int]:
    """Requests of both in closed windows."""
    assert candidate.marks.comparison is not None
    load = candidate.marks.comparison.tally.load
    return load.stable_requests, load.candidate_requests


def test_a_comparison_begins_with_what_was_counted_until_now() -> None:
    first = look(CANDIDATE, seen(1000, 7), 0)
    assert isinstance(first.judgement, Unknown)
    assert asked(noted(first)) == (0, 0)
    second = look(noted(first), seen(1040, 9), 30)
    assert second.noted == first.noted, "within a window nothing is written"
    assert second.due == 30


def test_a_comparison_does_not_begin_while_a_pod_cannot_be_read() -> None:
    found = look(CANDIDATE, SILENT, 0)
    assert isinstance(found.judgement, Unknown)
    assert "silent" in found.judgement.reason
    assert found.noted is None


def test_a_window_is_closed_after_a_minute_and_counts_once() -> None:
    after = noted(look(begun(), seen(1100, 5, at=60), 60))
    assert asked(after) == (100, 5)
    later_on = noted(look(after, seen(1150, 8, at=121), 121))
    assert asked(later_on) == (150, 8)


def test_a_window_is_closed_where_the_weights_change() -> None:
    found = look(begun(), seen(1100, 5, at=20), 20)
    assert asked(noted(found)) == (0, 0)
    assert asked(noted(found, changes=True)) == (100, 5)


def test_a_window_goes_on_while_it_cannot_be_read_and_misses_nothing() -> None:
    candidate = begun()
    blind = look(candidate, SILENT, 90)
    assert blind.noted == candidate.marks.comparison
    assert judgement(blind.judgement).verdict is Verdict.ERROR
    assert asked(noted(look(candidate, seen(1200, 9, at=120), 120))) == (200, 9)


def test_failures_of_the_candidate_alone_fail_it_within_the_first_window() -> None:
    found = judgement(look(begun(), seen(1400, 40, 40, at=30), 30).judgement)
    assert found.verdict is Verdict.FAIL
    assert "100.0% of 40 requests, 0.0% with 0.31.0" in found.says


@pytest.mark.parametrize("requests", [0, 3])
def test_few_requests_decide_nothing(requests: int) -> None:
    found = judgement(look(begun(), seen(1000 + requests, requests, at=30), 30).judgement)
    assert found.verdict not in (Verdict.PASS, Verdict.FAIL)


def test_a_golden_set_that_was_not_asked_holds_a_pass_back() -> None:
    golden = Asked(GoldenSetRef(name="golden"))
    found = look(begun(), seen(2000, 1000, at=30), 30, asked=golden)
    assert judgement(found.judgement).verdict is Verdict.ERROR
    found = look(begun(), seen(2000, 1000, at=30), 30, asked=replace(golden, under_way=True))
    assert judgement(found.judgement).verdict is Verdict.INCONCLUSIVE


def told(candidate: Revision, rounds: int = 1, reference: GoldenSetRef | None = None, **changes: Any) -> Revision:
    """The candidate, of which so many rounds of 150 golden questions were told."""
    pairing = pairing_of(candidate, STABLE, reference)
    kept = kept_of(pairing)
    for number in range(rounds):
        pairs = [GoldenPair(f"q{place}", **(ALIKE | changes)) for place in range(150)]
        run = GoldenRun(digest="abcd", of=150, start=0, count=150, asked=150, at=NOW, pairs=packed(pairs))
        kept = with_run(kept, number, run)
    return replace(candidate, marks=replace(candidate.marks, golden=kept))


IDLE = Asked(idle=True)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        pytest.param({}, Verdict.PASS, id="alike"),
        pytest.param({"candidate_failed": True}, Verdict.FAIL, id="every answer failed"),
        pytest.param({"candidate_first_token": 0.4}, Verdict.FAIL, id="twice as slow to the first token"),
        pytest.param({"candidate_inter_token": 0.04}, Verdict.FAIL, id="twice as slow between tokens"),
        pytest.param({"logprob_distance": 3.0}, Verdict.FAIL, id="another model"),
    ],
)
def test_while_the_deployment_is_idle_golden_questions_alone_judge(changes: dict[str, Any], verdict: Verdict) -> None:
    engines = replace(SILENT, pods=(READY,), live=OWNED, engines={READY.name: SIGHT})
    found = look(told(CANDIDATE, **changes), engines, 30, asked=IDLE)
    assert judgement(found.judgement).verdict is verdict
    assert found.noted is None, "nothing was counted"
    assert found.seen is not None
    assert (found.seen.pairs, found.seen.readable) == (150, True)


def test_while_the_deployment_is_idle_the_questions_are_asked_again_until_they_suffice() -> None:
    engines = replace(SILENT, pods=(READY,), live=OWNED, engines={READY.name: SIGHT})
    few = look(CANDIDATE, engines, 30, asked=IDLE)
    assert judgement(few.judgement).verdict is Verdict.INCONCLUSIVE
    assert few.short
    assert not look(told(CANDIDATE), engines, 30, asked=IDLE).short


@pytest.mark.parametrize(
    ("requests", "seconds", "short"),
    [
        pytest.param(6, 30, False, id="before a minute nobody knows how often clients ask"),
        pytest.param(6, 70, True, id="a request in ten seconds is too little"),
        pytest.param(140, 70, False, id="two in a second are enough within a step"),
    ],
)
def test_questions_are_asked_again_where_clients_ask_too_little(requests: int, seconds: float, short: bool) -> None:
    found = look(begun(), seen(1000 + requests, requests, at=seconds), seconds)
    assert found.short is short


def test_what_is_told_changes_when_a_window_is_closed_and_not_before() -> None:
    candidate = noted(look(begun(), seen(1100, 5, at=60), 60))
    told_now = [look(candidate, seen(1100 + more, 5 + more, at=60 + more), 60 + more).seen for more in (0, 20, 50)]
    assert told_now[0] is not None
    assert told_now[0].requests == 5
    assert told_now[0] == told_now[1] == told_now[2]
    after = look(candidate, seen(1200, 105, at=121), 121).seen
    assert after is not None
    assert after.requests == 105
    blind = look(candidate, SILENT, 90).seen
    assert blind is not None
    assert not blind.readable


@pytest.mark.parametrize(("requests", "told"), [(160, True), (80, False)], ids=["twice as often", "as often"])
def test_the_status_says_where_slower_times_do_not_count_since_replicas_are_asked_more(
    requests: int, told: bool
) -> None:
    candidate = noted(look(begun(), seen(1100, 5, at=60), 60))
    comparison = candidate.marks.comparison
    assert comparison is not None
    load = LoadTally(
        candidate_requests=requests,
        candidate_replica_seconds=60.0,
        candidate_busy_seconds=200.0,
        stable_requests=160,
        stable_replica_seconds=120.0,
        stable_busy_seconds=200.0,
    )
    tally = comparison.tally.model_copy(update={"load": load})
    marks = replace(candidate.marks, comparison=comparison.model_copy(update={"tally": tally}))
    found = look(replace(candidate, marks=marks), seen(1110, 6, at=70), 70).seen
    assert found is not None
    assert any("slower times do not count" in says for says in found.besides) is told


def test_after_a_pause_counting_begins_anew_and_what_was_seen_before_is_kept() -> None:
    paused = noted(look(begun(), seen(1100, 5, at=60), 60))
    resumed = state(judging_since=later(600))
    found = look(paused, seen(9000, 5, at=600), 600, state=resumed)
    assert isinstance(found.judgement, Unknown)
    assert asked(noted(found)) == (100, 5)
    assert asked(noted(look(noted(found), seen(9060, 8, at=660), 660, state=resumed))) == (160, 8)


def test_a_further_try_and_another_stable_revision_begin_with_nothing() -> None:
    old = noted(look(begun(), seen(1100, 5, at=60), 60))
    again = replace(old, marks=replace(old.marks, started=later(300)))
    found = noted(look(again, seen(1100, 5, at=300), 300, state=state(judging_since=later(300))))
    assert asked(found) == (0, 0)
    other = compare("ml/bot", old, CANDIDATE, state(), seen(1100, 5, at=70), later(70), stable_name="x")
    assert other.noted is not None
    assert other.noted.tally.seconds == 0


@pytest.mark.parametrize(
    ("where", "compares", "watched"),
    [
        pytest.param(state(), True, True, id="judging"),
        pytest.param(state(phase=Phase.PAUSED, reason=NO_EVIDENCE), True, True, id="a pause that waits for evidence"),
        pytest.param(state(phase=Phase.PAUSED, reason="Ordered"), False, False, id="a pause that a person asked for"),
        pytest.param(state(phase=Phase.LOADING), False, True, id="before the first replica is ready"),
        pytest.param(state(phase=Phase.PLACING), False, False, id="before it has a place"),
    ],
)
def test_revisions_are_compared_while_both_get_requests_and_watched_a_little_longer(
    where: RolloutState, compares: bool, watched: bool
) -> None:
    assert (is_comparing(where), is_watched(where)) == (compares, watched)
