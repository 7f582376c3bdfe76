"""The command as a container runs it, against two simulated engines."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightshift.api.golden_run import GoldenEnd, GoldenFailed, GoldenOutcome, GoldenReason, GoldenRun, parse_golden
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.facts import Known
from nightshift.core.golden.builtin import builtin_set
from nightshift.core.golden.outcome import pairs_of
from nightshift.core.golden.packing import unpack
from tests.support.raw_engine import RawEngine, Seen
from tests.vllm_sim.simulated import Simulated, simulated
from vllm_sim.answers import CAPITALS
from vllm_sim.faults import Faults

REPOSITORY = Path(__file__).parents[2]
DEADLINE_SECONDS = 120
COUNTRIES = sorted(CAPITALS)[:8]


@dataclass
class Ended:
    """What one run of the command left."""

    status: int
    outcome: GoldenOutcome | None
    output: str

    @property
    def run(self) -> GoldenRun:
        assert isinstance(self.outcome, GoldenRun), self.output
        assert self.status == 0
        return self.outcome

    @property
    def failed(self) -> GoldenFailed:
        assert isinstance(self.outcome, GoldenFailed), self.output
        assert self.status == 1
        return self.outcome

    @property
    def pairs(self) -> tuple[GoldenPair, ...]:
        fact = pairs_of(self.run)
        assert isinstance(fact, Known)
        return fact.value


async def ended(process: asyncio.subprocess.Process) -> None:
    """A test that fails leaves no process behind."""
    if process.returncode is None:
        process.kill()
        await process.communicate()


class Bench:
    """Two engines, and the command that asks them."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.set = directory / "golden.jsonl"
        self.log = directory / "termination-log"
        self._stack = stack

    async def engine(self, faults: Faults | None = None) -> Simulated:
        return await self._stack.enter_async_context(simulated((), faults or Faults(), {}))

    def write(self, *questions: dict[str, Any]) -> None:
        self.set.write_text("".join(json.dumps(question) + "\n" for question in questions))

    async def start(self, stable: int, candidate: int, *more: str) -> asyncio.subprocess.Process:
        arguments = ["--stable", f"127.0.0.1:{stable}", "--stable-model", "tiny", "--candidate"]
        arguments += [f"127.0.0.1:{candidate}", "--candidate-model", "tiny", "--termination-log", str(self.log)]
        if "builtin" not in more:
            arguments += ["--set", str(self.set), "--source", "ConfigMap golden, golden.jsonl"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nightshift.evaluate", *arguments, *(item for item in more if item != "builtin")),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "operator"), "HOME": "/nonexistent"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._stack.push_async_callback(ended, process)
        return process

    async def ask(self, stable: int, candidate: int, *more: str) -> Ended:
        process = await self.start(stable, candidate, *more)
        async with asyncio.timeout(DEADLINE_SECONDS):
            output, _ = await process.communicate()
        said = self.log.read_text() if self.log.exists() else ""
        assert process.returncode is not None
        return Ended(process.returncode, parse_golden(said), output.decode())


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(tmp_path, stack)


def port(engine: Simulated) -> int:
    assert engine.http.port is not None
    return engine.http.port


def capital(country: str) -> dict[str, Any]:
    question = [{"role": "user", "content": f"What is the capital of {country}?"}]
    scorer = {"type": "contains"}
    return {"id": country, "messages": question, "expected": CAPITALS[country][0], "scorer": scorer, "weight": 2}


async def test_a_sound_candidate_answers_like_the_stable_engine(bench: Bench) -> None:
    bench.write(*(capital(country) for country in COUNTRIES))
    ended = await bench.ask(port(await bench.engine()), port(await bench.engine()), "--seed", "s")
    run = ended.run
    assert (run.of, run.start, run.count, run.asked, run.ended) == (8, 0, 8, 8, GoldenEnd.ALL_ASKED)
    assert [pair.question for pair in ended.pairs] == COUNTRIES
    for pair in ended.pairs:
        assert (pair.weight, pair.stable_score, pair.candidate_score) == (2, 1.0, 1.0)
        assert (pair.stable_failed, pair.candidate_failed) == (False, False)
        assert (pair.logprob_distance, pair.stable_noise) == (0.0, 0.0)
        times = (
            pair.stable_first_token,
            pair.candidate_first_token,
            pair.stable_inter_token,
            pair.candidate_inter_token,
        )
        assert all(time is not None and 0 < time < DEADLINE_SECONDS for time in times)


async def test_a_damaged_candidate_is_told_by_its_scores(bench: Bench) -> None:
    bench.write(*(capital(country) for country in COUNTRIES))
    ended = await bench.ask(port(await bench.engine()), port(await bench.engine(Faults(damage=1.0))))
    assert [(pair.stable_score, pair.candidate_score) for pair in ended.pairs] == [(1.0, 0.0)] * 8


async def test_a_part_of_a_set_is_asked(bench: Bench) -> None:
    bench.write(*(capital(country) for country in COUNTRIES))
    engine = port(await bench.engine())
    ended = await bench.ask(engine, engine, "--start", "6", "--count", "150")
    assert (ended.run.of, ended.run.start, ended.run.count) == (8, 6, 2)
    assert [pair.question for pair in ended.pairs] == COUNTRIES[6:]


async def test_what_an_earlier_job_did_not_come_to_is_asked_alone(bench: Bench) -> None:
    bench.write(*(capital(country) for country in COUNTRIES), {"prompt": "Hello"})
    stable, candidate = await bench.engine(), await bench.engine()
    ended = await bench.ask(port(stable), port(candidate), "--start", "2", "--count", "5", "--only", "3,6")
    assert (ended.run.of, ended.run.expecting, ended.run.count, ended.run.asked) == (9, 8, 5, 2)
    found = unpack(ended.run.pairs, ended.run.start)
    assert found is not None
    assert found.places == (3, 6)
    assert [pair.question for pair in found.pairs] == [COUNTRIES[3], COUNTRIES[6]]


async def test_a_small_set_is_asked_together_with_the_built_in_questions(bench: Bench) -> None:
    bench.write(capital(COUNTRIES[0]), {"id": "builtin-2", "prompt": "Hello"})
    stable, candidate = await bench.engine(), await bench.engine()
    ended = await bench.ask(port(stable), port(candidate), "--least", "16")
    own = 2
    assert (ended.run.of, ended.run.expecting) == (own + len(builtin_set().questions) - 1, 1)
    assert [pair.question for pair in ended.pairs][:4] == [COUNTRIES[0], "builtin-2", "builtin-1", "builtin-3"]
    assert [pair.stable_score for pair in ended.pairs][:4] == [1.0, None, None, None]
    bench.write(*(capital(country) for country in COUNTRIES))
    assert (await bench.ask(port(stable), port(candidate), "--least", "8")).run.of == 8


async def test_the_built_in_set_needs_no_file(bench: Bench) -> None:
    """The longest of its prompts are refused by an engine of 512 tokens: by both, so it is nobody's fault."""
    engine = port(await bench.engine())
    ended = await bench.ask(engine, engine, "builtin", "--concurrency", "8")
    assert len(ended.pairs) == 32
    assert not any(pair.stable_failed or pair.candidate_failed for pair in ended.pairs)
    assert all(pair.stable_score is None for pair in ended.pairs)
    assert sum(pair.logprob_distance == 0.0 for pair in ended.pairs) >= 28


async def test_a_hanging_candidate_fails_its_questions_in_time(bench: Bench) -> None:
    bench.write(capital(COUNTRIES[0]))
    stable, candidate = port(await bench.engine()), port(await bench.engine(Faults(hang=True)))
    ended = await bench.ask(stable, candidate, "--question-seconds", "3")
    assert [(pair.candidate_failed, pair.candidate_score) for pair in ended.pairs] == [(True, None)]
    assert [(pair.stable_failed, pair.stable_score) for pair in ended.pairs] == [(False, 1.0)]
    assert "no whole answer within 3 s" in ended.output


async def test_a_candidate_that_is_not_there_is_told_and_not_judged(bench: Bench) -> None:
    bench.write(*(capital(country) for country in COUNTRIES))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        failed = (await bench.ask(port(await bench.engine()), probe.getsockname()[1])).failed
    assert failed.reason is GoldenReason.GOLDEN_ENGINE_UNREACHABLE
    assert "The candidate revision's pod at 127.0.0.1:" in failed.message


async def test_neither_questions_nor_answers_are_written(bench: Bench) -> None:
    bench.write(*(capital(country) for country in COUNTRIES))
    ended = await bench.ask(port(await bench.engine()), port(await bench.engine(Faults(damage=1.0))))
    assert "capital" not in ended.output
    assert CAPITALS[COUNTRIES[0]][0] not in ended.output


async def test_a_set_that_is_not_there_is_told(bench: Bench) -> None:
    failed = (await bench.ask(1, 1)).failed
    assert failed.reason is GoldenReason.GOLDEN_SET_NOT_FOUND
    assert failed.message == (
        "The golden set (ConfigMap golden, golden.jsonl) cannot be read: No such file or directory. Create it in this "
        "namespace, or correct spec.evaluation.goldenSetRef; it is looked for again every minute."
    )


async def test_a_set_that_cannot_be_read_is_told_with_its_line(bench: Bench) -> None:
    bench.write({"prompt": "a"}, {"prompt": "b", "weight": 0})
    failed = (await bench.ask(1, 1)).failed
    assert failed.reason is GoldenReason.GOLDEN_SET_INVALID
    assert failed.message.startswith("The golden set (ConfigMap golden, golden.jsonl) is invalid. Line 2, weight:")


async def test_a_set_that_became_shorter_is_told(bench: Bench) -> None:
    bench.write({"prompt": "a"})
    failed = (await bench.ask(1, 1, "--start", "150")).failed
    assert failed.reason is GoldenReason.GOLDEN_SET_CHANGED


async def test_an_answer_whose_pattern_takes_too_long_has_no_score(bench: Bench) -> None:
    slow = {"type": "regex", "pattern": r"^([\s\S]+[\s\S]+)+$(?!)"}
    bench.write({"id": "slow", "prompt": "Tell me a story.", "scorer": slow, "maxTokens": 64})
    engine = port(await bench.engine())
    ended = await bench.ask(engine, engine)
    (pair,) = ended.pairs
    assert (pair.stable_score, pair.candidate_score) == (None, None)
    assert ended.output.count("its pattern takes too long; simplify it") == 2
    assert "slow: stable: its pattern takes too long; simplify it" in ended.output


async def test_it_ends_at_once_when_its_pod_is_deleted(bench: Bench) -> None:
    bench.write(*(capital(country) for country in COUNTRIES))
    asked = asyncio.Event()

    async def hang(_: Seen, __: asyncio.StreamWriter) -> None:
        asked.set()
        await asyncio.Event().wait()

    engine = await RawEngine(answer=hang).start()
    process = await bench.start(engine.port, engine.port)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asked.wait()
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    await engine.stop()
    assert process.returncode == 128 + signal.SIGTERM
    assert not bench.log.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(["--count", "151"], id="more than fit in a message"),
        pytest.param(["--concurrency", "0"], id="none at a time"),
        pytest.param(["--total-seconds", "-1"], id="no time"),
        pytest.param(["--stable", "engine:8000"], id="a name for an address"),
        pytest.param(["--stable", "10.0.0.1"], id="no port"),
    ],
)
async def test_wrong_arguments_are_refused(bench: Bench, wrong: list[str]) -> None:
    ended = await bench.ask(1, 1, *wrong)
    assert (ended.status, ended.outcome) == (2, None)
