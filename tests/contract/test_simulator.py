"""The simulator, as each recorded vLLM version, does what real vLLM was recorded to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from e2e.contract.compare import Difference, differences, unexplained
from e2e.contract.known import KNOWN
from e2e.contract.local import simulator, write_adapter
from e2e.contract.process import PROCESS_CASES, run_process_cases
from e2e.contract.registry import CASES
from e2e.contract.results import Record, reference
from e2e.contract.run import chosen, run_all

VERSIONS = ("0.31.0", "0.32.0")
FAST = {"VLLM_SIM_STEP_SECONDS": "0.002"}


async def _run(version: str, folder: Path) -> Record:
    launcher = simulator(version, write_adapter(folder), settings=FAST)
    running = await launcher.start()
    try:
        cases = await run_all(running.engine, chosen(running.engine))
    finally:
        await running.kill()
    cases.update(await run_process_cases(launcher, list(PROCESS_CASES)))
    return Record(launcher.name, "sim", version, cases)


@pytest.fixture(scope="module", params=VERSIONS)
def simulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The simulator's results as one version."""
    return asyncio.run(_run(request.param, tmp_path_factory.mktemp("adapter")))


@pytest.mark.parametrize("case", [*CASES, *PROCESS_CASES])
def test_as_recorded_of_real_vllm(simulated: Record, case: str) -> None:
    expected = {case: reference(simulated.version).cases[case]}
    got = {case: simulated.cases[case]}
    assert "failed" not in got[case], got[case]
    rest, _ = unexplained(differences(expected, got), KNOWN, "sim", simulated.version)
    assert rest == []


def test_every_listed_difference_occurs(simulated: Record) -> None:
    found: list[Difference] = differences(reference(simulated.version).cases, simulated.cases)
    _, idle = unexplained(found, KNOWN, "sim", simulated.version)
    assert idle == []
