"""What the status says of a rollout that is being compared."""

import pytest

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.analysis.rules import Metric
from nightshift.core.analysis.verdict import Verdict
from nightshift.core.judged.steps import BY_ORDER, NO_EVIDENCE
from nightshift.core.judged.telling import Names, Seen, note, so_far, waits_for_person, where
from tests.support.builders import NOW

WHO = Names("0.32.0", "0.31.0")
JUDGING = RolloutState(phase=Phase.JUDGING, since=NOW, step=1, steps=(5, 25, 50), stable="s")
OPEN = ((Metric.ERRORS, Verdict.PASS), (Metric.FIRST_TOKEN, Verdict.INCONCLUSIVE))


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        pytest.param(Seen(), "0 requests", id="nothing yet"),
        pytest.param(
            Seen(412, findings=OPEN), "412 requests; errors passed; time to first token: too little seen", id="traffic"
        ),
        pytest.param(
            Seen(1, pairs=1, findings=((Metric.GOLDEN_ANSWERS, Verdict.ERROR),)),
            "1 request and 1 golden question; golden answers: cannot be read",
            id="one of each",
        ),
        pytest.param(
            Seen(0, pairs=32, findings=((Metric.LOG_PROBABILITY, Verdict.PASS), (Metric.ERRORS, Verdict.FAIL))),
            "32 golden questions; errors worse; log-probabilities passed",
            id="golden questions alone, in the order that people know",
        ),
        pytest.param(
            Seen(1000, findings=((Metric.PREEMPTIONS, Verdict.INCONCLUSIVE), (Metric.PROGRESS, Verdict.PASS))),
            "1,000 requests",
            id="what need not pass is not told",
        ),
        pytest.param(
            Seen(7, findings=OPEN, readable=False),
            "7 requests; what gateway and engines count cannot be read at the moment",
            id="a pod that does not answer",
        ),
        pytest.param(
            Seen(7, findings=OPEN[:1], besides=("times are not compared, as the accelerators are others",)),
            "7 requests; errors passed; times are not compared, as the accelerators are others",
            id="what is not compared",
        ),
    ],
)
def test_what_was_compared_and_what_is_missing(seen: Seen, says: str) -> None:
    assert so_far(seen) == says


def test_the_status_says_the_step_and_what_was_seen() -> None:
    assert where(JUDGING, WHO) == (
        "Judging",
        "Comparing 0.32.0 with 0.31.0 at 25 % of the requests (step 2 of 3).",
    )
    assert where(JUDGING, WHO, Seen(412, findings=OPEN))[1] == (
        "Comparing 0.32.0 with 0.31.0 at 25 % of the requests (step 2 of 3): 412 requests; errors passed; time to "
        "first token: too little seen."
    )
    assert where(JUDGING, WHO, Seen(pairs=3, idle=True))[1] == (
        "Comparing 0.32.0 with 0.31.0 by golden questions alone, as the deployment is idle: 3 golden questions."
    )


LOADING = JUDGING.model_copy(update={"phase": Phase.LOADING, "step": 0})
SECOND = JUDGING.model_copy(update={"says": ""})


@pytest.mark.parametrize(
    ("before", "after", "part", "says"),
    [
        pytest.param(LOADING, 0, 5, "0.32.0 is compared with 0.31.0: 5 % of the requests.", id="beside what serves"),
        pytest.param(LOADING, 0, 50, "0.32.0 is compared with 0.31.0: 50 % of the requests.", id="in place, of two"),
        pytest.param(SECOND, 1, 5, "0.32.0 goes on: 25 % of the requests.", id="its further replicas are to come"),
        pytest.param(SECOND, 1, 50, "0.32.0 goes on: 50 % of the requests.", id="in place it has more already"),
    ],
)
def test_a_step_is_told_with_the_part_of_the_requests_that_the_candidate_gets(
    before: RolloutState, after: int, part: int, says: str
) -> None:
    now = JUDGING.model_copy(update={"step": after, "says": ""})
    (event,) = note(before, now, WHO, part)
    assert event.message == says
    assert f" at {says.rsplit(': ', 1)[1].removesuffix('.')} (step {after + 1} of 3)" in where(now, WHO, None, part)[1]


@pytest.mark.parametrize(
    ("changes", "reason", "definite", "remedy"),
    [
        pytest.param({"reason": BY_ORDER}, "RolloutPaused", True, "resume, promote or abort", id="a person paused it"),
        pytest.param(
            {"reason": "GoldenSetNotFound"}, "GoldenSetNotFound", True, "resume, promote or abort", id="open at the end"
        ),
        pytest.param(
            {"reason": NO_EVIDENCE}, NO_EVIDENCE, False, "goes on by itself when the evidence", id="nothing can be read"
        ),
        pytest.param(
            {"reason": "NoGpuCapacity", "before_pause": Phase.PLACING},
            "NoGpuCapacity",
            False,
            "goes on by itself when there is room",
            id="there is no room",
        ),
    ],
)
def test_a_pause_says_whether_a_person_has_to_end_it(
    changes: dict[str, object], reason: str, definite: bool, remedy: str
) -> None:
    paused = JUDGING.model_copy(update={"phase": Phase.PAUSED, "says": "It is so.", **changes})
    cause = waits_for_person(paused, WHO)
    assert cause is not None
    assert (cause.reason, cause.definite) == (reason, definite)
    assert cause.message.startswith("The rollout of 0.32.0 is paused: It is so.")
    assert remedy in cause.message
    assert waits_for_person(JUDGING, WHO) is None
