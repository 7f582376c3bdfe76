"""What a change is meant to change is not held against a candidate: a model's likeness, accelerators' speed."""

from typing import Any

import pytest

from nightshift.core.analysis.evidence import Evidence
from nightshift.core.analysis.power import needs
from nightshift.core.analysis.rules import DEFAULT_RULES, Metric
from nightshift.core.analysis.verdict import Verdict
from tests.support.evidence import SLOWER, arm, evidence, judged, pairs, times

UNLIKE = pairs(24, logprob_distance=2.0, stable_noise=0.01)
LESS_ALIKE = pairs(24, logprob_distance=2.0, stable_noise=0.01)[:8] + pairs(24, logprob_distance=0.01)[8:]
SLOW = arm(500, first_token=times(5, SLOWER), inter_token=times(5, SLOWER), total=times(5, SLOWER))
FEW_TOKENS = arm(500, generation_tokens=15000, mean_running=4.2, replica_seconds=60.0, preemptions=400)
USUAL_TOKENS = arm(500, generation_tokens=30000, mean_running=4.0, replica_seconds=60.0)
MODEL, PLACE = {"other_model": True}, {"other_place": True}


def found(candidate: Any = None, **changes: Any) -> Evidence:
    values: dict[str, Any] = {"stable": USUAL_TOKENS, "windows": 20, **changes}
    return evidence(values.pop("stable"), candidate or USUAL_TOKENS, **values)


@pytest.mark.parametrize(
    ("seen", "meant", "before"),
    [
        pytest.param({"golden": UNLIKE}, MODEL, Verdict.FAIL, id="another model has other log-probabilities"),
        pytest.param({"golden": LESS_ALIKE}, MODEL, Verdict.INCONCLUSIVE, id="a fine-tune has some others"),
        pytest.param({"candidate": SLOW}, PLACE, Verdict.FAIL, id="slower accelerators are slower"),
        pytest.param({"candidate": FEW_TOKENS}, PLACE, Verdict.FAIL, id="and make fewer tokens with less memory"),
        pytest.param(
            {"candidate": arm(500, first_token=times(0), inter_token=times(0)), "stable": arm(500)},
            PLACE,
            Verdict.INCONCLUSIVE,
            id="times that were not seen are not waited for there",
        ),
    ],
)
def test_what_a_change_is_meant_to_change_neither_fails_nor_holds_up(
    seen: dict[str, Any], meant: dict[str, bool], before: Verdict
) -> None:
    assert judged(found(**seen)).verdict is before
    judgement = judged(found(**seen, **meant))
    assert judgement.verdict is Verdict.PASS, judgement.says
    assert needs(found(**seen, **meant), DEFAULT_RULES).requests == 0


@pytest.mark.parametrize(
    ("seen", "meant", "metric"),
    [
        pytest.param(
            {"candidate": arm(500, failed=40)}, MODEL | PLACE, Metric.ERRORS, id="errors fail whatever is meant"
        ),
        pytest.param({"candidate": arm(500, stalled=True)}, MODEL | PLACE, Metric.PROGRESS, id="so does a hang"),
        pytest.param({"golden": pairs(20, wrong=16)}, MODEL | PLACE, Metric.GOLDEN_ANSWERS, id="and wrong answers"),
        pytest.param({"candidate": SLOW}, MODEL, Metric.FIRST_TOKEN, id="another model is to be as fast"),
        pytest.param({"golden": UNLIKE}, PLACE, Metric.LOG_PROBABILITY, id="elsewhere it is to be the same model"),
    ],
)
def test_what_clients_would_feel_fails_all_the_same(
    seen: dict[str, Any], meant: dict[str, bool], metric: Metric
) -> None:
    judgement = judged(found(**seen, **meant))
    assert judgement.verdict is Verdict.FAIL
    assert next(item for item in judgement.findings if item.verdict is Verdict.FAIL).metric == metric


def test_too_few_requests_pass_nothing_elsewhere_either() -> None:
    assert judged(evidence(arm(100), arm(100), other_place=True)).verdict is Verdict.INCONCLUSIVE
