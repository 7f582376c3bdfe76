"""Named stories of judged rollouts: the real plan, and a world whose gateway and engines count what clients ask.

Nobody says what a comparison comes to: it is judged from counters that grow, with the scatter of a seed, and from what
golden Jobs tell.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nightshift.api import names
from nightshift.api.rollout import Phase, RolloutState
from tests.support import judged_tales as tales
from tests.support.builders import DIGEST, SHA
from tests.support.golden import assert_golden
from tests.support.simulation import Simulation

STORIES = Path(__file__).parent / "stories"
Tale = Callable[..., Simulation]


@pytest.fixture(scope="module")
def told() -> dict[Tale, Simulation]:
    """Every story, told once."""
    return {tale: tale(Simulation) for tale in (*tales.STORIES, *tales.SHORT)}


def states(simulation: Simulation) -> list[RolloutState]:
    """Where the rollouts of all revisions stand."""
    texts = (
        (raw["metadata"].get("annotations") or {}).get(names.ANNOTATION_ROLLOUT)
        for raw in simulation.server.of_kind("ControllerRevision")
    )
    return [RolloutState.model_validate_json(text) for text in texts if text is not None]


def reasons(simulation: Simulation) -> list[str]:
    """Reasons of the Events, in order."""
    return [line.split(" ")[2].rstrip(":") for line in simulation.log if line.startswith("event: ")]


@pytest.mark.parametrize("tale", tales.STORIES, ids=lambda tale: tale.__name__.replace("_", " "))
def test_the_log_of_a_judged_rollout(tale: Tale, told: dict[Tale, Simulation], regenerate: bool) -> None:
    simulation = told[tale]
    conditions = [f"{item.type}={item.status} {item.reason}: {item.message}" for item in simulation.status().conditions]
    text = "\n".join([*simulation.log, "", *conditions, ""])
    for number, raw in enumerate(simulation.server.of_kind("ControllerRevision"), start=1):
        text = text.replace(raw["metadata"]["labels"][names.LABEL_REVISION], f"r{number}")
    text = text.replace(DIGEST, "sha256:…").replace(SHA, "<commit>")
    text = re.sub(r"bot-(preflight|evaluation|golden)-[a-z0-9]{8}", r"bot-\1-<hash>", text)
    assert_golden(STORIES / f"{tale.__name__}.log", text, regenerate=regenerate)


@pytest.mark.parametrize(
    ("tale", "phase", "reason"),
    [
        (tales.promoted_through_all_steps, Phase.PROMOTED, ""),
        (tales.rolled_back_for_its_errors, Phase.ROLLED_BACK, "JudgedWorse"),
        (tales.rolled_back_for_its_times, Phase.ROLLED_BACK, "JudgedWorse"),
        (tales.promoted_by_the_golden_set_where_clients_ask_too_little, Phase.PROMOTED, ""),
        (tales.rolled_back_by_the_golden_set_for_its_answers, Phase.ROLLED_BACK, "JudgedWorse"),
        (tales.paused_while_the_gateway_is_silent, Phase.PROMOTED, ""),
        (tales.judged_at_zero_and_back_to_zero, Phase.PROMOTED, ""),
        (tales.promoted_in_two_short_steps, Phase.PROMOTED, ""),
        (tales.rolled_back_in_a_short_step, Phase.ROLLED_BACK, "JudgedWorse"),
    ],
    ids=lambda value: value.__name__.replace("_", " ") if callable(value) else "",
)
def test_how_a_judged_rollout_ends(tale: Tale, phase: Phase, reason: str, told: dict[Tale, Simulation]) -> None:
    simulation = told[tale]
    (state,) = states(simulation)
    assert (state.phase, state.reason) == (phase, reason), "\n".join(simulation.log)
    ready, stalled = simulation.condition("Ready")[0], simulation.condition("Stalled")[0]
    assert stalled == ("False" if phase is Phase.PROMOTED else "True")
    if phase is Phase.ROLLED_BACK:
        assert ready == "False"
    assert simulation.condition("Reconciling")[0] == "False"
    assert not [
        raw
        for raw in simulation.server.of_kind("Job")
        if raw["metadata"]["labels"][names.LABEL_COMPONENT] == names.COMPONENT_EVALUATION
    ]


def test_a_candidate_that_is_as_good_passes_every_step(told: dict[Tale, Simulation]) -> None:
    simulation = told[tales.promoted_through_all_steps]
    seen = [line for line in simulation.log if re.search(r"\d+ % of the requests", line) and line.startswith("event")]
    assert [re.findall(r"(\d+) % of the requests", line)[-1] for line in seen] == ["5", "25", "50"]
    assert "RolloutPaused" not in reasons(simulation)


@pytest.mark.parametrize(
    ("tale", "says"),
    [
        (tales.rolled_back_for_its_errors, "errors"),
        (tales.rolled_back_for_its_times, "1.3x"),
        (tales.rolled_back_by_the_golden_set_for_its_answers, "golden answers"),
    ],
    ids=["errors", "times", "answers"],
)
def test_one_that_is_worse_says_by_what(tale: Tale, says: str, told: dict[Tale, Simulation]) -> None:
    (line,) = [line for line in told[tale].log if line.startswith("event: Warning RolledBack")]
    assert says in line


def test_without_evidence_it_stands_still_and_goes_on_when_there_is_some(told: dict[Tale, Simulation]) -> None:
    simulation = told[tales.paused_while_the_gateway_is_silent]
    found = [item for item in reasons(simulation) if item.startswith("Rollout")]
    assert found.count("RolloutPaused") == 1
    (line,) = [line for line in simulation.log if line.startswith("event: Warning RolloutPaused")]
    assert "is paused: Gateway pod gw-1 does not say: " in line
    assert found.index("RolloutResumed") == found.index("RolloutPaused") + 1


def test_at_zero_golden_questions_alone_judge_and_nothing_runs_afterwards(told: dict[Tale, Simulation]) -> None:
    simulation = told[tales.judged_at_zero_and_back_to_zero]
    assert not any(simulation.asked().values())
    assert "Promoted" in reasons(simulation)


def test_a_story_is_told_alike_twice() -> None:
    tale = tales.promoted_in_two_short_steps
    assert tale(Simulation).log == tale(Simulation).log
