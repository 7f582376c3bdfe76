"""Simulators for the tests in this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.vllm_sim.simulated import Simulated, Start, simulated
from vllm_sim.faults import Faults


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts simulators; each ends with the test."""
    async with AsyncExitStack() as stack:

        async def begin(*arguments: str, faults: Faults | None = None, **settings: str) -> Simulated:
            return await stack.enter_async_context(simulated(arguments, faults or Faults(), settings))

        yield begin
