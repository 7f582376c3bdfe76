from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_sim.latency import LatencyModel
from vllm_sim.scheduler import Scheduler, Sequence

REQUEST = st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(0, 3))


def _scheduler(*, seqs: int = 4, blocks: int = 40, block: int = 4, budget: int = 64, caching: bool = True) -> Scheduler:
    return Scheduler(max_seqs=seqs, token_budget=budget, blocks=blocks, block=block, prefix_caching=caching)


def _sequence(number: int, prompt: int, output: int, family: int = 0) -> Sequence:
    return Sequence(number, [family * 1000 + index for index in range(prompt)], list(range(output)), 0.0)


def _drain(scheduler: Scheduler, limit: int = 20000) -> tuple[int, float, dict[int, int]]:
    """Run to the end: steps, seconds by the latency model, tokens by sequence."""
    model = LatencyModel(step=0.01, per_sequence=0.001, per_prefill_token=0.0001)
    now, steps = 0.0, 0
    tokens: dict[int, int] = {}
    while scheduler.busy:
        assert steps < limit, "the scheduler makes no progress"
        plan = scheduler.plan(now)
        assert plan.prefill or plan.decode
        assert len(scheduler.running) <= scheduler.max_seqs
        assert plan.prefill_tokens + len(plan.decode) <= scheduler.token_budget
        assert 0.0 <= scheduler.pool.usage <= 1.0
        now += model.step_seconds(decoding=len(plan.decode), prefill_tokens=plan.prefill_tokens)
        for sequence, _ in scheduler.finish(plan, now).tokens:
            tokens[sequence.id] = tokens.get(sequence.id, 0) + 1
        steps += 1
    return steps, now, tokens


@settings(max_examples=60, deadline=None)
@given(st.lists(REQUEST, min_size=1, max_size=12), st.booleans(), st.integers(1, 6))
def test_everyone_gets_all_tokens_and_all_memory_comes_back(
    requests: list[tuple[int, int, int]], caching: bool, seqs: int
) -> None:
    scheduler = _scheduler(seqs=seqs, blocks=30, caching=caching)
    for number, (prompt, output, family) in enumerate(requests):
        scheduler.add(_sequence(number, prompt, output, family))
    _, _, tokens = _drain(scheduler)
    assert tokens == {number: output for number, (_, output, _) in enumerate(requests)}
    assert scheduler.pool.used == 0
    assert not scheduler.running
    assert not scheduler.waiting


def test_one_request_takes_the_time_of_the_formula() -> None:
    scheduler = _scheduler(blocks=100)
    scheduler.add(_sequence(0, 50, 20))
    _, seconds, _ = _drain(scheduler)
    model = LatencyModel(step=0.01, per_sequence=0.001, per_prefill_token=0.0001)
    assert abs(seconds - model.request_seconds(prompt_tokens=50, output_tokens=20)) < 1e-9


def test_the_batch_is_bounded_and_the_rest_waits_in_order() -> None:
    scheduler = _scheduler(seqs=2, blocks=100)
    for number in range(5):
        scheduler.add(_sequence(number, 4, 10, number))
    scheduler.finish(scheduler.plan(0.0), 0.1)
    assert [sequence.id for sequence in scheduler.running] == [0, 1]
    assert [sequence.id for sequence in scheduler.waiting] == [2, 3, 4]


def test_a_long_prompt_is_computed_in_chunks() -> None:
    scheduler = _scheduler(budget=16, blocks=100)
    scheduler.add(_sequence(0, 40, 1))
    steps, _, _ = _drain(scheduler)
    assert steps == 3


def test_memory_pressure_preempts_the_youngest() -> None:
    scheduler = _scheduler(blocks=6, block=4, caching=False)
    first, second = _sequence(0, 8, 12), _sequence(1, 8, 12, 1)
    scheduler.add(first)
    scheduler.add(second)
    _drain(scheduler)
    assert (first.preemptions, second.preemptions > 0) == (0, True)
    assert scheduler.preemptions == second.preemptions


def test_a_repeated_prompt_hits_the_prefix_cache_but_for_its_last_token() -> None:
    scheduler = _scheduler(blocks=100, block=4)
    for _ in range(2):
        scheduler.add(_sequence(0, 16, 2))
        _drain(scheduler)
    assert scheduler.prefix_queries == 32
    assert scheduler.prefix_hits == 12


def test_an_adapter_has_a_cache_of_its_own() -> None:
    scheduler = _scheduler(blocks=100, block=4)
    for adapter in ("", "a", "a"):
        scheduler.add(Sequence(0, list(range(16)), [1], 0.0, adapter))
        _drain(scheduler)
    assert scheduler.prefix_hits == 12


def test_cached_blocks_are_evicted_when_space_is_needed() -> None:
    scheduler = _scheduler(blocks=10, block=4)
    for family in range(4):
        scheduler.add(_sequence(family, 30, 2, family))
        _drain(scheduler)
    assert scheduler.pool.used == 0
    scheduler.add(_sequence(9, 30, 2, 0))
    _drain(scheduler)
    assert scheduler.prefix_hits == 0


def test_aborting_frees_place_and_memory() -> None:
    scheduler = _scheduler(seqs=1, blocks=20)
    running, waiting = _sequence(0, 10, 50), _sequence(1, 10, 50, 1)
    scheduler.add(running)
    scheduler.add(waiting)
    plan = scheduler.plan(0.0)
    assert scheduler.abort(running)
    assert scheduler.abort(waiting)
    assert not scheduler.abort(running)
    assert scheduler.finish(plan, 0.1).tokens == ()
    assert scheduler.pool.used == 0
