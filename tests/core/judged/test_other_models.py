"""A model, a quantization or accelerators that are changed on purpose: what is compared then, and what is said."""

from dataclasses import replace
from typing import Any

import pytest

from nightshift.api import names
from nightshift.core.analysis.rules import Metric
from nightshift.core.analysis.verdict import Judgement, Verdict
from nightshift.core.judged.comparing import Asked, Compared, compare
from nightshift.core.revisions import Revision, same_model
from tests.core.judged.test_comparing import OWNED, READY, SIGHT, SILENT, STABLE, judgement, later, state, told
from tests.support.builders import OTHER_SHA, model_spec, revision

OTHER_MODEL = {"uri": "hf://acme/refunds", "revision": OTHER_SHA}
ANOTHER = revision({**model_spec(), "model": OTHER_MODEL}, number=2)
ELSEWHERE = revision(model_spec(hardware={"candidates": [{"accelerator": "cpu"}]}), number=2)
UNLIKE, SLOW = {"logprob_distance": 3.0}, {"candidate_first_token": 0.4, "candidate_inter_token": 0.04}


def idle(candidate: Revision, **changes: Any) -> Compared:
    """What 150 golden questions come to where nobody else asks."""
    pod = replace(READY, revision=candidate.hash)
    engines = replace(SILENT, pods=(pod,), live=OWNED, engines={pod.name: SIGHT})
    asked = told(candidate, **changes)
    return compare("ml/bot", asked, STABLE, state(), engines, later(30), stable_name="0.32.0", asked=Asked(idle=True))


def findings(found: Judgement) -> set[str]:
    return {item.metric for item in found.findings}


@pytest.mark.parametrize(
    ("model", "resolved", "engine", "same"),
    [
        pytest.param({}, {}, {}, True, id="nothing is changed"),
        pytest.param({}, {}, {"version": "0.33.0"}, True, id="another engine serves it"),
        pytest.param({"revision": "v2"}, {}, {}, True, id="another branch with the same commit"),
        pytest.param({"servedName": "x"}, {}, {}, True, id="another name for clients"),
        pytest.param({"uri": "hf://acme/refunds"}, {}, {}, False, id="another repository, though of the same commit"),
        pytest.param({}, {"model_revision": OTHER_SHA}, {}, False, id="another commit"),
        pytest.param({"quantization": "fp8"}, {}, {}, False, id="quantized"),
        pytest.param({}, {}, {"args": ["-q", "fp8"]}, False, id="quantized by an argument"),
    ],
)
def test_the_same_weights_in_the_same_form_are_the_same_model(
    model: dict[str, Any], resolved: dict[str, Any], engine: dict[str, Any], same: bool
) -> None:
    spec = model_spec(engine=engine)
    assert same_model(revision({**spec, "model": spec["model"] | model}, **resolved), STABLE) is same


def test_a_model_that_is_changed_on_purpose_is_not_asked_to_be_the_one_before() -> None:
    found = idle(ANOTHER, **UNLIKE)
    assert judgement(found.judgement).verdict is Verdict.PASS
    assert Metric.LOG_PROBABILITY not in findings(judgement(found.judgement))
    assert found.seen is not None
    assert found.seen.besides == ("log-probabilities are not compared, as the model is another one",)


def test_on_other_accelerators_times_decide_nothing() -> None:
    found = idle(ELSEWHERE, **SLOW)
    assert judgement(found.judgement).verdict is Verdict.PASS
    assert not {Metric.FIRST_TOKEN, Metric.INTER_TOKEN} & findings(judgement(found.judgement))
    assert found.seen is not None
    assert found.seen.besides == ("times are not compared, as the accelerators are others",)


@pytest.mark.parametrize(
    ("candidate", "changes", "offered"),
    [
        pytest.param(ANOTHER, SLOW, True, id="another model may be meant to be slower"),
        pytest.param(ANOTHER, {"stable_score": 1.0, "candidate_score": 0.0}, True, id="or to answer otherwise"),
        pytest.param(ANOTHER, {"candidate_failed": True}, False, id="no model is meant to fail"),
        pytest.param(ELSEWHERE, UNLIKE, False, id="the same model is not meant to be another one"),
    ],
)
def test_a_verdict_on_what_may_be_meant_says_how_it_is_let_through(
    candidate: Revision, changes: dict[str, Any], offered: bool
) -> None:
    found = judgement(idle(candidate, **changes).judgement)
    assert found.verdict is Verdict.FAIL
    way = f"if that is meant, set the annotation {names.ANNOTATION_PERSON} to retry and then to promote"
    assert (way in found.says) is offered
