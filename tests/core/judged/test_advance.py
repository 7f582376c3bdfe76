"""What becomes of a rollout: one row for every thing that can happen in a phase."""

from datetime import datetime, timedelta

import pytest

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.analysis.verdict import Judgement, Verdict
from nightshift.core.cause import Cause
from nightshift.core.facts import Known, Unknown
from nightshift.core.judged.advance import Advance, Pace, Situation, advance, begin
from nightshift.core.judged.orders import read_order
from nightshift.core.judged.steps import BY_ORDER, NO_EVIDENCE, UNDONE
from nightshift.core.judged.telling import Names, called
from tests.support.builders import NOW

NAMES = Names("0.32.0", "0.31.0")
SLOWER = "TTFT p95 2.1x of 0.31.0 over 412 requests (bound 1.3x)"
OOM = Cause("OutOfGpuMemory", "The engine ran out of GPU memory.", definite=True)
ROOM = Cause("NoGpuCapacity", "No node has a free accelerator.", definite=False)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def judged(verdict: Verdict, says: str = "said") -> Known[Judgement]:
    return Known(Judgement(verdict, (), says), NOW)


PASS, FAIL = judged(Verdict.PASS), judged(Verdict.FAIL, SLOWER)
OPEN, BROKEN = judged(Verdict.INCONCLUSIVE, "3 of 60 requests were seen"), judged(Verdict.ERROR, "no metrics")
BLIND = Unknown("The gateway did not answer.")


def state(phase: Phase, **more: object) -> RolloutState:
    values: dict[str, object] = {"since": NOW, "steps": (5, 25, 50), "stable": "s"}
    if phase is Phase.JUDGING:
        values |= {"judging_since": NOW, "step_since": NOW}
    return RolloutState(phase=phase, **(values | more))


def situation(**more: object) -> Situation:
    values: dict[str, object] = {"wanted": 4, "ready": 1, "ready_stable": 4, "placed": True, "reached": True}
    return Situation(**(values | more))  # type: ignore[arg-type]


def step(given: RolloutState, it: Situation, seconds: float = 0.0, **pace: object) -> Advance:
    return advance(given, it, Pace(**pace), NAMES, later(seconds))  # type: ignore[arg-type]


BLIND_PAUSE = state(
    Phase.PAUSED, reason=NO_EVIDENCE, before_pause=Phase.JUDGING, judging_since=NOW, step_since=NOW, says="no metrics"
)
ROOM_PAUSE = state(Phase.PAUSED, reason="NoGpuCapacity", before_pause=Phase.PLACING)
ORDERED_PAUSE = state(Phase.PAUSED, reason=BY_ORDER, before_pause=Phase.JUDGING)
NONE = {"ready": 0, "placed": False}
PASSED = {"judgement": PASS}
LATE_STEP = state(Phase.JUDGING, step=2, step_since=later(7000))
NEXT_STEP = state(Phase.JUDGING, step=2, step_since=None)


@pytest.mark.parametrize(
    ("given", "it", "seconds", "after"),
    [
        pytest.param(Phase.PREFLIGHT, {"cleared": False}, 0, Phase.PREFLIGHT, id="preflight: not everything is known"),
        pytest.param(Phase.PREFLIGHT, {"turn": False}, 9e9, Phase.PREFLIGHT, id="preflight: others go first"),
        pytest.param(Phase.PREFLIGHT, NONE, 0, Phase.PLACING, id="preflight: its turn has come"),
        pytest.param(Phase.PREFLIGHT, {"failure": OOM}, 0, Phase.ROLLING_BACK, id="preflight: it failed for certain"),
        pytest.param(Phase.PLACING, NONE, 9e9, Phase.PLACING, id="placing: no node yet"),
        pytest.param(Phase.PLACING, {**NONE, "held_up": ROOM}, 0, Phase.PAUSED, id="placing: no room is no failure"),
        pytest.param(Phase.PLACING, {"ready": 0}, 0, Phase.LOADING, id="placing: a node"),
        pytest.param(Phase.LOADING, {"ready": 0}, 9e9, Phase.LOADING, id="loading takes what it takes"),
        pytest.param(Phase.LOADING, NONE, 0, Phase.PLACING, id="loading: its node is gone"),
        pytest.param(Phase.LOADING, {}, 0, Phase.JUDGING, id="loading: ready"),
        pytest.param(Phase.LOADING, {"unjudged": True}, 0, Phase.PROMOTING, id="loading: nothing to compare with"),
        pytest.param(Phase.LOADING, {"ready": 0, "failure": OOM}, 0, Phase.ROLLING_BACK, id="loading: out of memory"),
        pytest.param(
            Phase.LOADING, {"ready": 0, "held_up": ROOM}, 0, Phase.PAUSED, id="loading: the cluster cannot run it"
        ),
        pytest.param(Phase.JUDGING, {"judgement": FAIL}, 0, Phase.ROLLING_BACK, id="judging: a failure counts at once"),
        pytest.param(Phase.JUDGING, {"judgement": PASS}, 299, Phase.JUDGING, id="judging: a pass has its time to wait"),
        pytest.param(Phase.JUDGING, {"judgement": OPEN}, 7199, Phase.JUDGING, id="judging: too little was seen yet"),
        pytest.param(Phase.JUDGING, {"judgement": OPEN}, 7200, Phase.PAUSED, id="judging: too little at the deadline"),
        pytest.param(Phase.JUDGING, {"judgement": BLIND}, 299, Phase.JUDGING, id="judging: no data yet is nothing"),
        pytest.param(Phase.JUDGING, {"judgement": BLIND}, 300, Phase.PAUSED, id="judging: no data at all"),
        pytest.param(
            Phase.JUDGING, {"judgement": BLIND, "read_at": later(151)}, 300, Phase.JUDGING, id="judging: read until now"
        ),
        pytest.param(
            Phase.JUDGING, {"judgement": BLIND, "read_at": later(150)}, 300, Phase.PAUSED, id="judging: not read lately"
        ),
        pytest.param(
            Phase.JUDGING,
            {"judgement": BLIND, "read_at": later(7100)},
            7200,
            Phase.JUDGING,
            id="judging: not read for a moment at the deadline",
        ),
        pytest.param(Phase.JUDGING, {"judgement": BROKEN}, 300, Phase.PAUSED, id="judging: the comparison is broken"),
        pytest.param(Phase.JUDGING, {"failure": OOM}, 0, Phase.ROLLING_BACK, id="judging: it crashes"),
        pytest.param(Phase.JUDGING, {"unjudged": True}, 0, Phase.PROMOTING, id="judging: the stable one was deleted"),
        pytest.param(LATE_STEP, {"judgement": PASS}, 7200, Phase.JUDGING, id="judging: passed, and the step goes on"),
        pytest.param(LATE_STEP, {"judgement": PASS}, 7299, Phase.JUDGING, id="judging: until it has had its time"),
        pytest.param(LATE_STEP, {"judgement": PASS}, 7300, Phase.PROMOTING, id="judging: passed after the deadline"),
        pytest.param(LATE_STEP, {"judgement": OPEN}, 7200, Phase.PAUSED, id="judging: it passed before, and no more"),
        pytest.param(NEXT_STEP, {**PASSED, "reached": False}, 14399, Phase.JUDGING, id="judging: its replicas come"),
        pytest.param(NEXT_STEP, {**PASSED, "reached": False}, 14400, Phase.PAUSED, id="judging: no replicas for it"),
        pytest.param(
            NEXT_STEP,
            {**PASSED, "reached": False, "held_up": ROOM},
            7200,
            Phase.PAUSED,
            id="judging: no room for its replicas at the deadline",
        ),
        pytest.param(
            Phase.JUDGING, {"alone": ROOM}, 0, Phase.PAUSED, id="judging: no room for what it is compared with"
        ),
        pytest.param(
            Phase.JUDGING,
            {"alone": ROOM, "unjudged": True},
            0,
            Phase.PROMOTING,
            id="judging: so it takes over if it may",
        ),
        pytest.param(
            BLIND_PAUSE, {"alone": ROOM, "unjudged": True}, 0, Phase.PROMOTING, id="paused: and so it does without data"
        ),
        pytest.param(BLIND_PAUSE, {"alone": ROOM}, 0, Phase.PAUSED, id="paused: or gives its place back"),
        pytest.param(Phase.PROMOTING, {}, 9e9, Phase.PROMOTING, id="promoting: not in full yet"),
        pytest.param(Phase.PROMOTING, {"complete": True}, 0, Phase.PROMOTED, id="promoting: in full"),
        pytest.param(Phase.PROMOTING, {"failure": OOM}, 0, Phase.ROLLING_BACK, id="promoting: it crashes"),
        pytest.param(Phase.PROMOTING, {"judgement": FAIL}, 0, Phase.PROMOTING, id="promoting: it is judged no more"),
        pytest.param(
            state(Phase.ROLLING_BACK, reason="JudgedWorse"), {}, 0, Phase.ROLLING_BACK, id="back: requests are left"
        ),
        pytest.param(
            state(Phase.ROLLING_BACK, reason="JudgedWorse"), {"drained": True}, 0, Phase.ROLLED_BACK, id="back: drained"
        ),
        pytest.param(
            state(Phase.ROLLING_BACK, reason=UNDONE),
            {"ready_stable": 3},
            0,
            Phase.ROLLING_BACK,
            id="undo: not whole yet",
        ),
        pytest.param(state(Phase.ROLLING_BACK, reason=UNDONE), {}, 0, Phase.ROLLED_BACK, id="undo: whole"),
        pytest.param(
            state(Phase.ROLLING_BACK, reason=UNDONE),
            {"ready_stable": 0, "held_up": ROOM},
            0,
            Phase.PROMOTED,
            id="undo: no room for the one before, so this one goes on",
        ),
        pytest.param(BLIND_PAUSE, {"judgement": OPEN}, 600, Phase.JUDGING, id="paused: the evidence is back"),
        pytest.param(BLIND_PAUSE, {"judgement": BLIND}, 7199, Phase.PAUSED, id="paused: it is not"),
        pytest.param(ROOM_PAUSE, {**NONE, "held_up": ROOM}, 9e9, Phase.PAUSED, id="paused: no room"),
        pytest.param(ROOM_PAUSE, NONE, 9e9, Phase.PAUSED, id="paused: others have their turn"),
        pytest.param(ROOM_PAUSE, {"ready": 0}, 9e9, Phase.PLACING, id="paused: there is room again"),
        pytest.param(ORDERED_PAUSE, {"judgement": PASS}, 9e9, Phase.PAUSED, id="paused by a person: until a person"),
        pytest.param(Phase.PROMOTED, {"failure": OOM}, 0, Phase.PROMOTED, id="promoted: what follows is no rollout"),
        pytest.param(Phase.ROLLED_BACK, {}, 9e9, Phase.ROLLED_BACK, id="rolled back: not tried again by itself"),
    ],
)
def test_what_happens(given: Phase | RolloutState, it: dict[str, object], seconds: float, after: Phase) -> None:
    before = state(given) if isinstance(given, Phase) else given
    assert step(before, situation(**it), min(seconds, 1e8)).state.phase is after


@pytest.mark.parametrize(
    ("policy", "after"),
    [("Pause", Phase.PAUSED), ("Promote", Phase.PROMOTING), ("Rollback", Phase.ROLLING_BACK)],
)
def test_an_inconclusive_one_ends_as_the_spec_says(policy: str, after: Phase) -> None:
    found = step(state(Phase.JUDGING), situation(judgement=OPEN), 7200, on_inconclusive=policy)
    assert (found.state.phase, found.state.reason) == (after, "Inconclusive")


@pytest.mark.parametrize("policy", ["Pause", "Promote", "Rollback"])
def test_a_step_that_passes_after_the_deadline_is_followed_by_the_next(policy: str) -> None:
    it = situation(judgement=PASS)
    begun = step(state(Phase.JUDGING, step=1, step_since=later(7000)), it, 7300, on_inconclusive=policy).state
    assert (begun.phase, begun.step) == (Phase.JUDGING, 2)
    waits = step(begun, situation(judgement=PASS, reached=False), 7301, on_inconclusive=policy).state
    assert waits.phase is Phase.JUDGING, "what passed is not inconclusive because its next replicas load"
    goes = step(waits, it, 8000, on_inconclusive=policy).state
    assert step(goes, it, 8300, on_inconclusive=policy).state.phase is Phase.PROMOTING


def test_the_worked_example_of_the_patience() -> None:
    assert Pace().patience(state(Phase.JUDGING)) == later(4 * 3600)
    assert Pace().patience(state(Phase.PLACING)) is None


def test_missing_data_never_promotes_whatever_the_spec_says() -> None:
    for policy in ("Promote", "Rollback"):
        found = step(state(Phase.JUDGING), situation(judgement=BLIND), 7200, on_inconclusive=policy)
        assert (found.state.phase, found.state.reason) == (Phase.PAUSED, "EvidenceMissing")
        found = step(BLIND_PAUSE, situation(judgement=BLIND), 7200, on_inconclusive=policy)
        assert (found.state.phase, found.state.reason) == (Phase.PAUSED, "EvidenceMissing")


@pytest.mark.parametrize(
    ("it", "seconds", "says"),
    [
        pytest.param(
            {"judgement": BLIND, "read_at": later(150)},
            300,
            "The rollout of 0.32.0 is paused: The gateway did not answer; everything was last read at 12:02:30 UTC. "
            "See that the gateway's and the engines' pods are ready and that the operator reaches them, and their "
            "logs. Both revisions go on as they are; it goes on by itself",
            id="gateway and engines",
        ),
        pytest.param(
            {"judgement": BLIND, "read_at": later(7000)},
            7200,
            "The rollout of 0.32.0 is paused: The gateway did not answer; everything was last read at 13:56:40 UTC. "
            "See that the gateway's and the engines' pods are ready and that the operator reaches them, and their "
            "logs. 0.31.0 serves meanwhile",
            id="until the deadline",
        ),
        pytest.param(
            {"judgement": Unknown("The golden set is not there.")},
            300,
            "The rollout of 0.32.0 is paused: The golden set is not there. Both revisions go on",
            id="something else",
        ),
    ],
)
def test_a_pause_for_missing_data_says_first_what_cannot_be_read(
    it: dict[str, object], seconds: float, says: str
) -> None:
    (event,) = step(state(Phase.JUDGING), situation(**it), seconds).events
    assert event.reason == "RolloutPaused"
    assert event.message.startswith(says), event.message


def test_step_by_step_to_the_end() -> None:
    now, it = state(Phase.JUDGING), situation(judgement=PASS)
    for index in (1, 2):
        found = step(now, it, 300.0 * index)
        assert (found.state.phase, found.state.step, found.state.step_since) == (Phase.JUDGING, index, None)
        waiting = step(found.state, situation(judgement=PASS, reached=False), 9000)
        assert waiting.state.step == index, "without its weight a step does not begin"
        now = step(found.state, it, 300.0 * index).state
        assert now.step_since == later(300.0 * index)
        assert now.judging_since == NOW, "the deadline is one for all steps"
    assert step(now, it, 900).state.phase is Phase.PROMOTING


def test_while_the_deployment_is_idle_one_pass_is_enough() -> None:
    found = step(state(Phase.JUDGING), situation(wanted=0, ready_stable=0, judgement=PASS), 300)
    assert found.state.phase is Phase.PROMOTING


def test_a_pause_without_evidence_does_not_lengthen_the_deadline() -> None:
    paused = step(state(Phase.JUDGING), situation(judgement=BLIND), 300).state
    back = step(paused, situation(judgement=OPEN), 3000).state
    assert (back.phase, back.judging_since, back.step_since) == (Phase.JUDGING, NOW, NOW)
    assert step(back, situation(judgement=OPEN), 7200).state.phase is Phase.PAUSED


def test_a_resumed_rollout_takes_up_the_step_that_it_had_with_a_deadline_of_its_own() -> None:
    paused = state(Phase.PAUSED, reason=BY_ORDER, before_pause=Phase.JUDGING, step=1, judging_since=NOW, step_since=NOW)
    found = step(paused, situation(order=read_order("resume Ada", None)), 9000)
    assert (found.state.phase, found.state.step) == (Phase.PREFLIGHT, 1)
    assert (found.state.judging_since, found.state.step_since) == (None, None)
    assert found.events[0].message == "0.32.0 goes on: A person resumed it (Ada)."


@pytest.mark.parametrize(
    ("phase", "text", "after", "reason"),
    [
        (Phase.JUDGING, "pause Ada", Phase.PAUSED, BY_ORDER),
        (Phase.JUDGING, "promote Ada", Phase.PROMOTING, ""),
        (Phase.JUDGING, "abort Ada", Phase.ROLLING_BACK, "Aborted"),
        (Phase.PROMOTED, "undo Ada", Phase.ROLLING_BACK, UNDONE),
        (Phase.ROLLED_BACK, "retry Ada", Phase.PREFLIGHT, ""),
    ],
)
def test_an_order_is_carried_out_and_remembered_with_who_and_when(
    phase: Phase, text: str, after: Phase, reason: str
) -> None:
    order = read_order(text, None)
    found = step(state(phase), situation(order=order), 60)
    assert (found.state.phase, found.state.reason) == (after, reason)
    seen = found.state.ordered
    assert seen is not None
    assert (seen.text, seen.by, seen.at, seen.refused) == (text, "Ada", later(60), "")
    assert "Ada" in found.events[0].message
    assert read_order(text, seen) is None


@pytest.mark.parametrize(
    ("phase", "text", "more", "says"),
    [
        (Phase.JUDGING, "resume Ada", {}, "Orders that do: pause, promote, abort, undo."),
        (Phase.JUDGING, "faster Ada", {}, "is no order. Write one of pause"),
        (Phase.PROMOTED, "undo Ada", {"stable_there": False}, "there is no earlier revision to return to"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_told_once(
    phase: Phase, text: str, more: dict[str, object], says: str
) -> None:
    found = step(state(phase), situation(order=read_order(text, None), **more))
    assert found.state.phase is phase
    (event,) = found.events
    assert (event.type, event.reason) == ("Warning", "OrderRefused")
    assert says in event.message
    assert read_order(text, found.state.ordered) is None


def test_the_evidence_is_told_in_one_sentence() -> None:
    failed = step(state(Phase.JUDGING), situation(judgement=FAIL))
    assert failed.events[0].message == f"0.32.0 gives way to 0.31.0: {SLOWER}."
    gone = step(failed.state, situation(drained=True))
    assert gone.events[0].message == f"0.32.0 rolled back: {SLOWER}"
    assert (gone.state.reason, gone.state.says) == ("JudgedWorse", SLOWER)


def test_nothing_is_rolled_back_without_a_revision_to_return_to() -> None:
    given = situation(failure=OOM, stable_there=False, unjudged=True)
    assert step(state(Phase.LOADING), given).state.phase is Phase.PROMOTING
    assert step(state(Phase.PROMOTING), given).state.phase is Phase.PROMOTING


def test_a_new_spec_abandons_a_rollout_and_a_failed_one_stays_failed() -> None:
    assert step(state(Phase.JUDGING), situation(superseded=True)).state.phase is Phase.ABANDONED
    failed = state(Phase.ROLLING_BACK, reason="JudgedWorse", says=SLOWER)
    found = step(failed, situation(superseded=True)).state
    assert (found.phase, found.reason, found.says) == (Phase.ROLLED_BACK, "JudgedWorse", SLOWER)


@pytest.mark.parametrize(
    ("seconds", "due"),
    [pytest.param(0, 300.0, id="the step's time"), pytest.param(400, 6800.0, id="then the deadline")],
)
def test_when_time_alone_may_bring_the_next_step(seconds: float, due: float) -> None:
    assert step(state(Phase.JUDGING), situation(judgement=OPEN), seconds).due == due


def test_a_deadline_is_never_shorter_than_the_steps() -> None:
    assert Pace(300, 600).deadline(state(Phase.JUDGING)) == later(900)
    assert Pace(300, 7200).deadline(state(Phase.JUDGING)) == later(7200)
    assert Pace().deadline(state(Phase.PLACING)) is None


def test_a_rollout_begins_before_everything_or_takes_over_at_once_where_nothing_serves() -> None:
    assert begin("s", (5,), NOW).phase is Phase.PREFLIGHT
    assert begin("", (5,), NOW).phase is Phase.PROMOTING


def test_revisions_are_called_by_their_versions_where_these_differ() -> None:
    assert called(("0.32.0", "a1"), ("0.31.0", "b2")) == Names("0.32.0", "0.31.0")
    assert called(("0.32.0", "a1"), ("0.32.0", "b2")) == Names("revision a1", "revision b2")


def test_nothing_changes_nothing_is_written() -> None:
    for phase in Phase:
        quiet = situation(**NONE, ready_stable=3, drained=False, turn=False, judgement=OPEN, reached=False)
        given = state(phase, reason=UNDONE) if phase is Phase.ROLLING_BACK else state(phase)
        if phase not in (Phase.LOADING, Phase.ROLLING_BACK):
            assert not step(given, quiet).changed, phase
