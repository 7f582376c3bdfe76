"""What the story of bad candidates beside each other goes by: what each is asked, and what is found amiss of each."""

import re
import subprocess
from typing import Any

import pytest

from e2e.stories.bad_candidates import OTHERS, SLOWER
from e2e.stories.rolling import SHAPE, labelled_so
from e2e.stories.side_by_side import gathering, shape_for
from e2e.support.client import KubectlError, WaitError
from nightshift.api import names

TWO_CORES = 60
"""Requests a second that two cores serve beside the engines' starts."""


def test_two_cores_serve_all_of_them_at_once() -> None:
    assert sum(shape_for(name, bad).per_second for name, bad in OTHERS.items()) <= TWO_CORES


@pytest.mark.parametrize("name", OTHERS)
def test_each_has_a_deployment_whose_clients_ask_as_much_as_its_verdict_needs(name: str) -> None:
    bad = OTHERS[name]
    shape = shape_for(name, bad)
    assert re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", name)
    assert len(name) <= names.MAX_NAME_LENGTH
    assert (shape.model, shape.tokens) == (name, SHAPE.tokens)
    assert shape.per_second == (SHAPE.per_second if bad.judged else 2)


def test_the_one_that_is_compared_by_its_times_is_asked_by_the_whole_shape() -> None:
    assert shape_for("tiny", SLOWER) == SHAPE


def test_one_that_did_not_give_way_is_named_and_hides_nothing_of_the_others() -> None:
    amiss: list[str] = []
    gone = []
    for name, error in {
        "errors": WaitError("not within 240 s: its rollout is RolledBack"),
        "crash": None,
        "killed": KubectlError("no answer within 120 s"),
        "stuck-loading": subprocess.TimeoutExpired("load", 120),
    }.items():
        with gathering(amiss, name):
            if error is not None:
                raise error
            gone.append(name)
    assert gone == ["crash"]
    assert [line.partition(":")[0] for line in amiss] == ["errors", "killed", "stuck-loading"]
    assert amiss[0] == "errors: not within 240 s: its rollout is RolledBack"


def test_a_fault_of_the_story_itself_is_not_taken_for_one_of_a_candidate() -> None:
    with pytest.raises(TypeError), gathering([], "errors"):
        raise TypeError("the story is wrong")


def test_of_one_watch_each_sees_its_own() -> None:
    def of(name: str) -> tuple[str, dict[str, Any]]:
        return "MODIFIED", {"metadata": {"labels": {names.LABEL_DEPLOYMENT: name}}}

    events = [of("errors"), of("crash"), of("errors"), ("ADDED", {"metadata": {"labels": {}}})]
    assert labelled_so(lambda: events, names.LABEL_DEPLOYMENT, "errors") == [events[0], events[2]]
