from dataclasses import replace
from typing import Any

import pytest

from nightshift.api.conditions import Condition
from nightshift.api.status import Status
from nightshift.core.events import events
from nightshift.core.planning import EventNote, Plan
from tests.support.builders import DIGEST, HUB_MODEL, NOW, revision

PLAN = Plan(target=revision())
TARGET = revision().hash


def state(target: str | None = TARGET, **conditions: str) -> Status:
    """Conditions written as True, or as False:Reason."""
    found = []
    for kind, text in conditions.items():
        value, _, reason = text.partition(":")
        values: dict[str, Any] = {"status": value, "reason": reason or "Serving", "message": f"About {reason or kind}."}
        found.append(Condition(type=kind, last_transition_time=NOW, **values))
    return Status(target_revision=target, conditions=tuple(found))


SERVES = {"Ready": "True", "Available": "True", "Progressing": "False:Complete", "Stalled": "False:NotStalled"}
STARTS = {
    "Ready": "False:Preparing",
    "Available": "False:NoReadyReplicas",
    "Progressing": "True:Preparing",
    "Stalled": "False:NotStalled",
}
STALLED = {"Ready": "False:Bad", "Available": "True", "Progressing": "False:Bad", "Stalled": "True:Bad"}
NO_GPU = {
    "Ready": "False:NoGpuCapacity",
    "Available": "True",
    "Progressing": "False:NoGpuCapacity",
    "Stalled": "False:NotStalled",
}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(state(**SERVES), state(**SERVES), [], id="nothing changed"),
        pytest.param(state(), state(**STARTS), [("Normal", "Preparing")], id="it was just created"),
        pytest.param(state(**STARTS), state(**SERVES), [("Normal", "Serving")], id="it serves"),
        pytest.param(
            state(**SERVES), state(**{**SERVES, "Ready": "False:Scaling"}), [("Normal", "Scaling")], id="it is changed"
        ),
        pytest.param(
            state(**STARTS),
            state(**{**STARTS, "Ready": "False:EngineStarting"}),
            [],
            id="one reason for not being ready follows another",
        ),
        pytest.param(state(**SERVES), state(**STALLED), [("Warning", "Bad")], id="it waits for a person, told once"),
        pytest.param(state(**STALLED), state(**STALLED), [], id="it still waits for a person"),
        pytest.param(
            state(**STALLED),
            state(**{**STALLED, "Stalled": "True:Worse", "Progressing": "False:Worse"}),
            [("Warning", "Worse")],
            id="it waits for a person for another reason",
        ),
        pytest.param(
            state(**{**SERVES, "Ready": "False:Scaling", "Progressing": "True:Scaling"}),
            state(**NO_GPU),
            [("Warning", "NoGpuCapacity")],
            id="it is blocked by something that may pass",
        ),
        pytest.param(state(**NO_GPU), state(**NO_GPU), [], id="it is still blocked"),
        pytest.param(
            state(**SERVES),
            state(**{**SERVES, "Available": "False:NoReadyReplicas", "Ready": "False:EngineCrashed"}),
            [("Normal", "EngineCrashed"), ("Warning", "NoReadyReplicas")],
            id="nothing serves any more",
        ),
        pytest.param(
            state(**{**SERVES, "Ready": "False:Scaling"}),
            state(**{**SERVES, "Available": "False:NoReadyReplicas", "Ready": "True:Off"}),
            [("Normal", "Off")],
            id="nothing serves because nothing was asked for",
        ),
        pytest.param(
            state(**{**SERVES, "Ready": "True:Off"}),
            state(**SERVES),
            [("Normal", "Serving")],
            id="it is ready for another reason",
        ),
        pytest.param(
            state(**SERVES),
            state(**{**SERVES, "Progressing": "False:Paused", "Ready": "False:Paused"}),
            [("Normal", "Paused")],
            id="a pause is no obstacle",
        ),
    ],
)
def test_only_what_changed_makes_an_event(before: Status, after: Status, expected: list[tuple[str, str]]) -> None:
    found = events(before, after, PLAN)
    assert [(note.type, note.reason) for note in found] == expected
    assert all(note.message.startswith("About ") for note in found)


@pytest.mark.parametrize(
    ("announced", "after", "expected"),
    [
        pytest.param(
            EventNote("Warning", "RolledBack", "It is bad.", why="Bad"), STALLED, ["RolledBack"], id="stalled"
        ),
        pytest.param(
            EventNote("Warning", "RolloutPaused", "No room.", why="NoGpuCapacity"),
            NO_GPU,
            ["RolloutPaused"],
            id="blocked by something that may pass",
        ),
        pytest.param(
            EventNote("Warning", "RolloutPaused", "No room.", why="NoGpuCapacity"),
            STALLED,
            ["RolloutPaused", "Bad"],
            id="stalled for another reason",
        ),
        pytest.param(EventNote("Normal", "Promoted", "It serves."), STALLED, ["Promoted", "Bad"], id="of no condition"),
    ],
)
def test_what_the_plan_has_announced_conditions_do_not_tell_again(
    announced: EventNote, after: dict[str, str], expected: list[str]
) -> None:
    under_way = state(**{**SERVES, "Ready": "False:Judging", "Progressing": "True:Judging"})
    found = events(under_way, state(**after), replace(PLAN, announcements=(announced,)))
    assert [note.reason for note in found] == expected


def test_another_revision_is_told_with_what_it_is() -> None:
    note = events(state("old", **SERVES), state(**SERVES), PLAN)[0]
    assert (note.type, note.reason) == ("Normal", "RevisionSelected")
    assert note.message == (
        f"Revision {TARGET}: registry.example/vllm:v0.32.0@{DIGEST} serving {HUB_MODEL} at commit 0123456789ab."
    )
    assert events(state("old", **SERVES), state(None, **SERVES), Plan()) == ()
