"""Against engine starts that others published: refusals must never be wrong, and how far the likely value is off."""

import json
from typing import Any

import pytest

from nightshift.core.fit.settings import engine_settings
from nightshift.core.fit.traits import GIB
from nightshift.core.fit.verdict import Hardware, Memory, share_out
from tests.core.fit.fit_models import HERE, facts_of

STARTS: list[dict[str, Any]] = json.loads((HERE / "published.json").read_text())["starts"]


def rows(*keys: str) -> pytest.MarkDecorator:
    """The starts whose log says one of these."""
    chosen = [start for start in STARTS if any(key in start for key in keys)]
    names = [f"{start['model']}-{start['version']}-x{start['count']}" for start in chosen]
    return pytest.mark.parametrize("start", chosen, ids=names)


WEIGHTS_WITHIN = 0.02
KV_WITHIN_GIB = 3.0
"""GiB per accelerator that the likely KV memory may be off: overheads are an estimate."""


def shares(start: dict[str, Any]) -> Memory:
    hardware = Hardware(start["accelerator"], start["count"], start["memory_gib"], (9, 0))
    memory = share_out(facts_of(start["model"]), engine_settings(start["args"]), start["version"], hardware)
    assert isinstance(memory, Memory)
    return memory


def measured_kv(start: dict[str, Any], memory: Memory) -> float:
    if "blocks" in start:
        return float(start["blocks"] * memory.kv.block_bytes / GIB)
    return float(start["kv_gib"])


@rows("weights_gib")
def test_weights_are_what_the_engine_loaded(start: dict[str, Any]) -> None:
    assert shares(start).budget.weights.per_rank / GIB == pytest.approx(start["weights_gib"], rel=WEIGHTS_WITHIN)


@rows("kv_gib", "blocks")
def test_the_most_that_could_be_left_is_never_less_than_was_left(start: dict[str, Any]) -> None:
    memory = shares(start)
    measured = measured_kv(start, memory)
    assert memory.budget.kv_most / GIB >= measured
    assert memory.budget.kv_likely / GIB == pytest.approx(measured, abs=KV_WITHIN_GIB)


@rows("tokens")
def test_tokens_follow_from_the_bytes_that_were_left(start: dict[str, Any]) -> None:
    memory = shares(start)
    tokens = memory.kv.capacity(int(start["kv_gib"] * GIB), memory.max_model_len).tokens
    assert tokens == pytest.approx(start["tokens"], rel=0.015), "the rank with the least counts, and two decimals"
