"""The benchmark of rollouts: peers that do as they document, shapes, limits, and rollouts that end as they should."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.analysis import counting, peers
from bench.analysis.__main__ import Cells, claims, rightly_told
from bench.analysis.driver import INCONCLUSIVE, PROMOTED, ROLLED_BACK, Outcome, roll_out
from bench.analysis.plot import bars, curve
from bench.analysis.shapes import (
    BLOCK,
    FIRST_TOKEN_BOUNDS,
    SYNTHETIC,
    Recording,
    Shape,
    Shot,
    load,
    synthetic,
)
from bench.analysis.world import IDENTICAL, KINDS, Kind, Shapes, World, binomial, poisson
from bench.analysis_recording import Answer, questions, written
from nightshift.core.analysis.evidence import Arm, Histogram

SHAPE = Shape(synthetic(400, seed=3))
SLOW = Shape(synthetic(400, seed=3), first_token=1.5)


def world(kind: Kind, rate: float, seed: int = 1) -> World:
    return World(kind, rate, Shapes(SHAPE, SLOW if kind.first_token > 1 else SHAPE), random.Random(seed))


def named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


@pytest.mark.parametrize("example", peers.examples())
def test_a_peer_does_as_its_documentation_says(example: str) -> None:
    assert peers.examples()[example]


def test_what_a_peer_finds_wrong() -> None:
    quick = Arm(1000, 0, first_token=Histogram((0.1, 0.4, 1.0), (900, 100, 0, 0)))
    slow = Arm(1000, 0, first_token=Histogram((0.1, 0.4, 1.0), (900, 0, 100, 0)))
    flagger = peers.Flagger()
    assert flagger.wrong([quick]) == ""
    assert flagger.wrong([slow]) == "request duration 0.940s > 0.5s"
    assert flagger.wrong([Arm(100, 5, first_token=quick.first_token)]) == "success rate 95.00% < 99%"
    assert flagger.wrong([Arm(0, 0)]) == "no values found"


def test_no_request_is_a_failed_measurement_of_argo_rollouts() -> None:
    assert peers.Argo.phase(peers.success_rate([Arm(0, 0)]), lambda value: value >= 0.95) == peers.FAILED


def test_peers_go_their_way_through_the_same_world() -> None:
    assert peers.Flagger(duration=30.0).roll_out(world(IDENTICAL, 20.0)).end == PROMOTED
    assert peers.Flagger(duration=0.001).roll_out(world(IDENTICAL, 20.0)).end == ROLLED_BACK
    assert peers.Argo().roll_out(world(IDENTICAL, 20.0)).end == PROMOTED
    assert peers.Argo(success=0.99).roll_out(world(named("5 % errors"), 20.0)).end == ROLLED_BACK


@pytest.mark.parametrize("rate", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_rollout_ends_as_it_should(kind: Kind, rate: float) -> None:
    outcome, course = roll_out(world(kind, rate))
    assert outcome.end == (PROMOTED if kind is IDENTICAL else ROLLED_BACK)
    assert outcome.requests > 0 or kind.hangs
    assert course.judged >= outcome.minutes


def test_the_same_seed_is_the_same_rollout() -> None:
    cells = Cells(synthetic(400, seed=3), 7)
    first, second = (cells.run(IDENTICAL, 1.0, 2, lambda found: roll_out(found)[0]) for _ in range(2))
    assert first == second
    assert first[0] != first[1]


def test_a_block_is_of_requests_that_follow_each_other() -> None:
    """Half of the recording is fast and half is slow: a block is one or the other, but where they meet."""
    recording = Recording("test", (*[Shot(0.03, 0.02, 10)] * 500, *[Shot(0.3, 0.02, 10)] * 500))
    shape, source, mixed = Shape(recording), random.Random(1), 0
    for _ in range(200):
        first, _, tokens, _ = shape.draw(BLOCK, source)
        assert (first.total, tokens) == (BLOCK, 10 * BLOCK)
        mixed += sum(count > 0 for count in first.counts) > 1
    assert 0 <= mixed < 40


def test_a_draw_has_as_many_times_as_requests() -> None:
    first, inter, tokens, busy = SHAPE.draw(137, random.Random(2))
    assert first.total == SHAPE.draw_first(137, random.Random(2)).total == 137
    assert inter.total == tokens - 137
    assert busy > 0
    assert len(first.counts) == len(FIRST_TOKEN_BOUNDS) + 1


def test_the_synthetic_shapes_are_those_of_the_generator_and_say_what_they_are() -> None:
    stored = load(SYNTHETIC)
    assert stored.to_json() == synthetic().to_json()
    assert "not a recording" in stored.engine
    choosing, judged = stored.halves()
    assert choosing.shots + judged.shots == stored.shots


def test_what_the_recorder_writes_is_read_as_a_recording(tmp_path: Path) -> None:
    answers = [Answer(2.0, 0.31234, (0.02, 0.03), 4), Answer(1.0, 0.2, (), 0)]
    path = tmp_path / "recording.json"
    path.write_text(json.dumps(written("vLLM 0.32.0", "tiny", 1.0, 5, answers)))
    found = load(path)
    assert found.engine == "vLLM 0.32.0"
    assert found.shots == (Shot(0.2, 0.0, 1), Shot(0.3123, 0.025, 3, (0.02, 0.03)))
    _, inter, tokens, _ = Shape(found).draw(2, random.Random(1))
    assert (inter.total, tokens) == (2, 4)


def test_the_recorder_asks_the_same_of_a_seed_and_long_prompts_too() -> None:
    asked = questions(200, 2.0, 9)
    assert asked == questions(200, 2.0, 9)
    assert 60 < asked[-1].at < 160
    lengths = [len(question.prompt.split()) for question in asked]
    assert max(lengths) > 4 * sorted(lengths)[100]


def test_random_numbers_have_their_means() -> None:
    source = random.Random(4)
    for mean in (0.5, 8.0, 900.0):
        assert sum(poisson(mean, source) for _ in range(2000)) / 2000 == pytest.approx(mean, rel=0.1)
    for count, share in ((10, 0.3), (40, 0.05), (5000, 0.5), (100, 0.9)):
        assert sum(binomial(count, share, source) for _ in range(2000)) / 2000 == pytest.approx(count * share, rel=0.1)
    assert [binomial(9, share, source) for share in (0.0, 1.0)] == [0, 9]


@pytest.mark.parametrize(
    ("found", "value"),
    [
        pytest.param(counting.upper_bound(0, 2000), 0.001497, id="none of 2,000 is at most 0.15 %"),
        pytest.param(counting.upper_bound(4, 2000), 0.004571, id="four of 2,000 is at most 0.46 %"),
        pytest.param(counting.lower_bound(2000, 2000), 0.998503, id="all of 2,000 is at least 99.85 %"),
        pytest.param(counting.lower_bound(190, 200), 0.9167, id="190 of 200 is at least 91.7 %"),
        pytest.param(counting.upper_bound(200, 200), 1.0, id="all may be all"),
    ],
)
def test_limits_of_shares(found: float, value: float) -> None:
    assert found == pytest.approx(value, rel=0.001)


def ends(count: int, end: str) -> Iterator[Outcome]:
    return (Outcome(end, 15.0, 100, "Errors" if end == ROLLED_BACK else "") for _ in range(count))


def table(identical: list[Outcome], bad: list[Outcome]) -> dict[str, dict[str, object]]:
    told = {kind.name: counting.told(identical if kind is IDENTICAL else bad) for kind in KINDS}
    return {name: {"1_per_second": cell} for name, cell in told.items()}


@pytest.mark.parametrize(
    ("promoted", "wrongly", "found", "broken"),
    [
        pytest.param(2000, 0, 2000, 0, id="all as it should be"),
        pytest.param(1880, 0, 2000, 1, id="too few are promoted"),
        pytest.param(1990, 6, 2000, 1, id="six of 2,000 are rolled back wrongly"),
        pytest.param(2000, 0, 1900, 4, id="95 % are no proof of 95 %"),
    ],
)
def test_a_claim_that_does_not_hold_says_so(promoted: int, wrongly: int, found: int, broken: int) -> None:
    identical = [*ends(promoted, PROMOTED), *ends(wrongly, ROLLED_BACK), *ends(2000 - promoted - wrongly, INCONCLUSIVE)]
    bad = [*ends(found, ROLLED_BACK), *ends(2000 - found, INCONCLUSIVE)]
    promised = claims(table(identical, bad), milliseconds=0.5)
    assert sum(not claim.holds for claim in promised) == broken
    assert not claims(table(identical, bad), milliseconds=1.5)[-1].holds


def test_rolling_everything_back_is_worth_one_half() -> None:
    everything = list(ends(20, ROLLED_BACK))
    assert rightly_told(table(everything, everything)) == 0.5
    assert rightly_told(table(list(ends(20, PROMOTED)), everything)) == 1.0


def test_plots_are_pictures() -> None:
    assert bars("Right", {"A & B": 0.5, "C": 1.0}).count("<rect") == 3
    assert curve("Slower", {"promoted": [(1.0, 1.0), (1.5, 0.0)]}).count("<polyline") == 1
