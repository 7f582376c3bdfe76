"""What the stories of judged rollouts judge by: each judgement with a case that it must find."""

import random
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import jsonschema
import pytest

from e2e.model import data
from e2e.stories import rolling, world
from e2e.stories.bad_candidates import OTHERS, SLOWER
from e2e.stories.rolling import (
    EVALUATION,
    LABEL,
    NEW,
    SHAPE,
    STREAM_SHAPE,
    STREAM_STEP,
    VARIABLES,
    Seen,
    complaints,
    golden_set,
    most_engines,
    readings,
    simulated,
    states,
)
from e2e.stories.world import World
from e2e.support.client import Client, Events
from nightshift.api import names
from nightshift.api.resource import parse
from nightshift.api.rollout import Phase, RolloutState
from nightshift.api.schema import custom_resource_definition
from nightshift.core.analysis.evidence import Arm, Histogram
from nightshift.core.analysis.verdict import Verdict
from nightshift.core.golden.parse import GoldenSet, parse_set
from tests.support.evidence import evidence, judged
from vllm_sim.faults import parse as parse_faults

UNDER_WAY = {"Ready": "False", "Reconciling": "True", "Stalled": "False", "Progressing": "True"}
SERVES = {"Ready": "True", "Reconciling": "False", "Stalled": "False", "Progressing": "False"}
STALLED = {"Ready": "False", "Reconciling": "False", "Stalled": "True", "Progressing": "False"}
MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def deployment(said: dict[str, str], generation: int = 2, observed: int | None = None) -> tuple[str, dict[str, Any]]:
    told = {"Available": "True"} | said
    conditions = [{"type": kind, "status": status, "reason": "R", "message": "M."} for kind, status in told.items()]
    status = {"observedGeneration": generation if observed is None else observed, "conditions": conditions}
    return "MODIFIED", {"metadata": {"generation": generation}, "status": status}


def revision(name: str, phase: Phase | None) -> tuple[str, dict[str, Any]]:
    state = RolloutState(phase=phase, since=MARCH, stable="a") if phase is not None else None
    annotations = {names.ANNOTATION_ROLLOUT: state.model_dump_json(by_alias=True)} if state is not None else {}
    return "MODIFIED", {"metadata": {"labels": {names.LABEL_REVISION: name}, "annotations": annotations}}


@pytest.mark.parametrize(
    ("events", "found"),
    [
        pytest.param([deployment(UNDER_WAY), deployment(SERVES)], ["InProgress", "Current"], id="it takes over"),
        pytest.param([deployment(UNDER_WAY), deployment(STALLED)], ["InProgress", "Failed"], id="it gives way"),
        pytest.param(
            [deployment(SERVES, observed=1), deployment(UNDER_WAY), deployment(SERVES)],
            ["InProgress", "Current"],
            id="a spec that was not looked at yet is in progress, whatever stood there before",
        ),
        pytest.param(
            [deployment(SERVES, generation=1), deployment(UNDER_WAY)], ["InProgress"], id="what was before counts not"
        ),
        pytest.param(
            [deployment(UNDER_WAY), deployment(SERVES), deployment(UNDER_WAY), deployment(SERVES)],
            ["InProgress", "Current", "InProgress", "Current"],
            id="called done before it was",
        ),
    ],
)
def test_what_kstatus_makes_of_it(events: Events, found: list[str]) -> None:
    assert readings(events, 2) == found


@pytest.mark.parametrize(
    ("said", "found"),
    [
        pytest.param(UNDER_WAY, "", id="under way"),
        pytest.param(SERVES, "", id="serves"),
        pytest.param(STALLED, "", id="calls for a person"),
        pytest.param(UNDER_WAY | {"Progressing": "False"}, "", id="under way, and something is in the way for now"),
        pytest.param(SERVES | {"Stalled": "True"}, "Ready and Stalled are True at once", id="ready and stalled"),
        pytest.param(STALLED | {"Reconciling": "True"}, "Reconciling and Stalled are True", id="two ways at once"),
        pytest.param(UNDER_WAY | {"Reconciling": "False"}, "None of Ready", id="nothing of the three"),
        pytest.param(STALLED | {"Progressing": "True"}, "Progressing is True while Stalled", id="goes on, and stalled"),
        pytest.param(UNDER_WAY | {"Available": "False"}, "Available is False: M.", id="nothing serves"),
    ],
)
def test_conditions_contradict_each_other(said: dict[str, str], found: str) -> None:
    complaint = "; ".join(complaints([deployment(SERVES, generation=1), deployment(said)], 2))
    assert found in complaint
    assert bool(found) == bool(complaint)


def test_an_outage_may_leave_nothing_that_serves() -> None:
    assert complaints([deployment(UNDER_WAY | {"Available": "False"})], 2, available=False) == []


def test_a_path_that_kstatus_should_not_take_is_told() -> None:
    seen = Seen(lambda: [deployment(UNDER_WAY), deployment(STALLED)], list)
    assert seen.told(2, ["InProgress", "Failed"]) == []
    (told,) = seen.told(2, ["InProgress", "Current"])
    path, _, said = told.partition(": ")
    assert path == "kstatus read ['InProgress', 'Failed'], not ['InProgress', 'Current']"
    assert said.startswith("False ("), "what Ready said is told with it"


def test_phases_are_those_of_one_revision_in_their_order() -> None:
    events = [
        revision("b", None),
        revision("b", Phase.PLACING),
        revision("a", Phase.PROMOTED),
        revision("b", Phase.PLACING),
        revision("b", Phase.LOADING),
    ]
    seen = Seen(list, lambda: events)
    assert seen.phases("b") == [Phase.PLACING, Phase.LOADING]
    assert len(states(events, "b")) == 2
    assert (seen.latest("b"), seen.latest("c")) == (seen.states("b")[-1], None)


def test_engines_are_counted_while_they_stay() -> None:
    def pod(kind: str, uid: str, **more: str) -> tuple[str, dict[str, Any]]:
        return kind, {"metadata": {"uid": uid, **more}}

    events = [
        pod("ADDED", "a"),
        pod("ADDED", "b"),
        pod("MODIFIED", "a", deletionTimestamp="2026-03-01T00:00:00Z"),
        pod("ADDED", "c"),
        pod("DELETED", "a"),
        pod("DELETED", "b"),
    ]
    assert most_engines(events) == 2


def test_the_golden_set_of_the_stories_can_be_read() -> None:
    pairs = [*data.capitals(), *data.held_out_sums()]
    found = parse_set("\n".join(data.golden_lines(pairs)).encode())
    assert isinstance(found, GoldenSet), found
    assert len(found.questions) == len(pairs)


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> World:
    """A story without a cluster, which only writes manifests."""
    for module in (rolling, world):
        monkeypatch.setattr(module, "simulator_repository", lambda: "registry.example/vllm-sim")
    return World(cast(Client, None), "story")


def understood(manifest: dict[str, Any]) -> Any:
    """The spec of a manifest that the API server lets in, as the operator reads it."""
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    jsonschema.Draft4Validator(schema).validate(manifest)
    assigned = {"uid": "d7a7a3b8-5d6e-4c7a-9d54-1f8f7a0d2b11", "generation": 1}
    return parse({**manifest, "metadata": {**manifest["metadata"], **assigned}}).spec


def test_stories_of_golden_sets_name_one_in_a_way_that_is_understood(story: World) -> None:
    spec = understood(simulated(story, evaluation=EVALUATION))
    questions = golden_set(story, data.capitals())
    assert spec.evaluation.golden_set_ref.name == questions["metadata"]["name"]
    assert spec.evaluation.golden_set_ref.key in questions["data"]


def test_stories_about_other_things_are_not_judged_whatever_else_they_say_of_rollouts(story: World) -> None:
    plain, outage = story.deployment(), story.simulated(rollout={"allowOutage": True})
    assert understood(plain).rollout.strategy == "Readiness"
    assert (understood(outage).rollout.strategy, understood(outage).rollout.allow_outage) == ("Readiness", True)
    plain["spec"]["rollout"]["placementTimeoutSeconds"] = 3
    assert story.deployment()["spec"]["rollout"] == {"strategy": "Readiness"}, "one story's change is not another's"


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param({}, id="a sound one"),
        pytest.param(SLOWER.engine, id=SLOWER.what),
        *(pytest.param(bad.engine, id=bad.what) for bad in OTHERS.values()),
    ],
)
def test_stories_of_rollouts_are_judged_in_one_short_step(story: World, engine: dict[str, Any]) -> None:
    manifest = simulated(story, NEW, replicas=2, **engine)
    spec = understood(manifest)
    assert (spec.rollout.strategy, spec.rollout.steps, spec.replicas) == ("Auto", (50,), 2)
    assert spec.engine.version == NEW
    variables = {entry.name: entry.value for entry in spec.engine.env}
    assert parse_faults(variables.get("VLLM_SIM_FAULTS") or "{}") is not None, "the simulator knows these faults"
    assert manifest["metadata"]["labels"] == {LABEL: "tiny"}, "or no watch would tell of it"


FIRST_TOKEN = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5)
INTER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
"""vLLM's bounds, as far as the stories' times reach."""
STEP = float(VARIABLES["VLLM_SIM_STEP_SECONDS"])


def counted(bounds: Sequence[float], times: Sequence[float]) -> Histogram:
    counts = [0] * (len(bounds) + 1)
    for time in times:
        counts[bisect_left(bounds, time)] += 1
    return Histogram(tuple(bounds), tuple(counts))


def answered(requests: int, slow: float, seed: int, usual: float = STEP, tokens: int = SHAPE.tokens) -> Arm:
    """Requests as the stories' engines answer them: each waits for the step that runs, and then for its own."""
    draw, jitter = random.Random(seed), float(VARIABLES["VLLM_SIM_JITTER"])

    def step() -> float:
        return slow * usual * (1 + jitter * draw.uniform(-1, 1))

    first = [draw.random() * step() + step() for _ in range(requests)]
    others = [step() for _ in range(requests * (tokens - 1))]
    return Arm(
        requests,
        0,
        first_token=counted(FIRST_TOKEN, first),
        inter_token=counted(INTER_TOKEN, others),
        finish_reasons={"length": requests},
        stalled=False,
    )


@pytest.mark.parametrize(
    ("slow", "verdict"),
    [
        pytest.param(1.0, Verdict.PASS, id="the same times pass"),
        pytest.param(2.0, Verdict.FAIL, id="twice the times fail"),
    ],
)
def test_a_minute_of_the_stories_requests_suffices_for_a_verdict(slow: float, verdict: Verdict) -> None:
    in_a_window = round(20 * SHAPE.per_second / 2)
    found = judged(evidence(answered(in_a_window, 1.0, 1), answered(in_a_window, slow, 2), windows=3))
    assert found.verdict is verdict, found.says


@pytest.mark.parametrize("drawn", range(1, 21, 2))
def test_three_minutes_of_the_requests_beside_200_streams_suffice_to_pass(drawn: int) -> None:
    requests, tokens = round(60 * STREAM_SHAPE.per_second / 2), STREAM_SHAPE.tokens
    stable, new = (answered(requests, 1.0, each, STREAM_STEP, tokens) for each in (drawn, drawn + 1))
    found = judged(evidence(stable, new, windows=3))
    assert found.verdict is Verdict.PASS, found.says
