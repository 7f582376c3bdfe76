"""The public models of the tests: their facts by name."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from nightshift.api.model_facts import ModelFacts, TensorSummary, model_facts
from nightshift.core.facts import Unknown
from nightshift.core.fit.shape import ModelShape, model_shape
from nightshift.core.fit.verdict import Hardware

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in (HERE / "configs").glob("*.json"))

L4 = Hardware("nvidia-l4-24gb", 1, 22.0, (8, 9))
A100 = Hardware("nvidia-a100-80gb", 1, 79.2, (8, 0))
H100 = Hardware("nvidia-h100-80gb", 1, 79.2, (9, 0))
H200 = Hardware("nvidia-h200-141gb", 1, 139.8, (9, 0))


@cache
def fixture(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "configs" / f"{name}.json").read_text())
    return found


def facts_of(name: str, tensors: TensorSummary | None = None) -> ModelFacts:
    return model_facts(fixture(name)["config"], tensors)


def shape_of(name: str) -> ModelShape:
    shape = model_shape(facts_of(name))
    assert not isinstance(shape, Unknown), shape.reason
    return shape


def files_of(name: str) -> ModelFacts:
    """The facts with the size of the published files."""
    return facts_of(name, TensorSummary(total_bytes=fixture(name)["total_size"]))
