"""Patterns that would be looked for for ever are given up."""

import signal

from nightshift.api.golden import GoldenQuestion
from nightshift.evaluate.patience import patient_score


def pattern(text: str) -> GoldenQuestion:
    return GoldenQuestion.model_validate({"id": "1", "prompt": "?", "scorer": {"type": "regex", "pattern": text}})


def test_a_pattern_that_is_found_scores() -> None:
    assert patient_score(pattern("^a+$"), "aaa") == (1.0, False)


def test_a_pattern_that_would_take_years_is_given_up_and_scores_nothing() -> None:
    before = signal.getsignal(signal.SIGALRM)
    assert patient_score(pattern("^(a+)+$"), "a" * 64 + "b", seconds=0.05) == (None, True)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_other_scores_need_no_alarm() -> None:
    question = GoldenQuestion.model_validate({"id": "1", "prompt": "?", "expected": 4})
    assert patient_score(question, "It is 4.") == (1.0, False)
