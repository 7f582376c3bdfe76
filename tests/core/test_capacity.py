"""What the status says a replica holds: expected before the start, measured after it, and nothing that is not known."""

from collections.abc import Mapping
from typing import Any

import pytest

from nightshift.api.config import AcceleratorProfile
from nightshift.api.model_facts import ModelFacts
from nightshift.api.status import FitStatus, Status
from nightshift.core.capacity import fit_status
from nightshift.core.engine_metrics import EngineMetrics
from nightshift.core.engine_sight import EngineSight
from nightshift.core.facts import Known
from nightshift.core.observed import Observed
from nightshift.core.revisions import Revision
from tests.core.fit.fit_models import facts_of
from tests.support.builders import NOW, config, pod, revision

PROFILES = {
    "h100": AcceleratorProfile(resource_name="nvidia.com/gpu", memory_gib=79.3, compute_capability="9.0"),
    "cpu": AcceleratorProfile(),
}
LLAMA = facts_of("llama-3.1-8b")
TINY = facts_of("tiny")


def stored(facts: ModelFacts | None, accelerator: str = "h100", *arguments: str) -> Revision:
    spec = {
        "model": {"uri": "hf://acme/tiny"},
        "hardware": {"candidates": [{"accelerator": accelerator}]},
        "engine": {"args": list(arguments)},
    }
    made = revision(spec, chosen=config(accelerators=PROFILES))
    record = made.record.model_copy(update={"facts": facts})
    return Revision(made.hash, made.number, record, made.marks, made.manifest)


def telling(of: Revision, labels: Mapping[str, str]) -> Observed:
    metrics = EngineMetrics(0, 0, 0, 0, 0, 0, None, True, labels)
    sight = EngineSight("start", Known(metrics, NOW), Known(metrics, NOW), NOW)
    engine = pod(of.hash)
    return Observed(pods=(engine,), engines={engine.name: sight})


MEASURED = {"num_gpu_blocks": "25000", "block_size": "16", "kv_cache_size_tokens": "400000"}
ON_CPU = {
    "num_gpu_blocks": "512", "block_size": "128", "kv_cache_size_tokens": "65536", "kv_cache_max_concurrency": "128.0",
}  # fmt: skip


def test_before_the_start_it_is_estimated() -> None:
    found = fit_status(stored(LLAMA), Observed(), Status())
    assert found is not None
    assert (found.source, found.longest_context) == ("Estimated", 131072)
    assert found.kv_tokens == found.expected_kv_tokens
    assert found.concurrent_requests == found.kv_tokens // 131072 == 3


def test_after_it_the_engine_says_it_and_the_estimate_stays_to_compare_with() -> None:
    estimate = fit_status(stored(LLAMA), Observed(), Status())
    of = stored(LLAMA)
    assert estimate is not None
    assert fit_status(of, telling(of, MEASURED), Status()) == FitStatus(
        source="Measured",
        kv_tokens=400000,
        expected_kv_tokens=estimate.kv_tokens,
        longest_context=131072,
        concurrent_requests=3,
    )


@pytest.mark.parametrize(
    ("of", "labels", "expected"),
    [
        pytest.param(
            stored(TINY, "cpu"), ON_CPU,
            FitStatus(source="Measured", kv_tokens=65536, longest_context=512, concurrent_requests=128),
            id="nothing was expected on the processor, and the engine says it all",
        ),
        pytest.param(
            stored(None), {"kv_cache_size_tokens": "1000", "kv_cache_max_concurrency": "0.5"},
            FitStatus(source="Measured", kv_tokens=1000), id="less than one request says nothing of the context",
        ),
        pytest.param(stored(None), {"num_gpu_blocks": "9"}, None, id="an old engine tells blocks of unknown models"),
        pytest.param(stored(None), {}, None, id="nothing is known"),
        pytest.param(stored(LLAMA, "h100", "--hf-overrides={}"), {}, None, id="arguments that are not computed"),
        pytest.param(stored(facts_of("llama-3.1-70b")), {}, None, id="a misfit that was let through promises nothing"),
    ],
)  # fmt: skip
def test_only_what_is_known_is_said(of: Revision, labels: Mapping[str, str], expected: FitStatus | None) -> None:
    assert fit_status(of, telling(of, labels) if labels else Observed(), Status()) == expected


def test_a_measured_size_stays_while_no_engine_tells_and_goes_with_its_revision() -> None:
    of, other = stored(LLAMA), stored(LLAMA, "h100", "--max-model-len=8192")
    measured = fit_status(of, telling(of, MEASURED), Status())
    previous = Status(target_revision=of.hash, fit=measured)
    assert fit_status(of, Observed(), previous) == measured
    changed = fit_status(other, Observed(), previous)
    assert changed is not None
    assert (changed.source, changed.longest_context) == ("Estimated", 8192)


def test_a_profile_of_another_version_expects_nothing() -> None:
    of = stored(LLAMA)
    inputs = of.record.inputs.model_copy(update={"profile": {"colour": "green"}})
    odd: Any = of.record.model_copy(update={"inputs": inputs})
    assert fit_status(Revision(of.hash, 1, odd, of.marks, of.manifest), Observed(), Status()) is None
