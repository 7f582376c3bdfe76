import pytest

from nightshift.core.facts import Unknown
from nightshift.core.fit.observed import CacheConfigInfo, cache_config_info, corrected, overheads_measured
from nightshift.core.fit.settings import EngineSettings
from nightshift.core.fit.suggest import fit
from nightshift.core.fit.traits import GIB
from nightshift.core.fit.verdict import Fits
from tests.core.fit.fit_models import H100, facts_of


def fits(model: str, length: int = 8192) -> Fits:
    found = fit(facts_of(model), EngineSettings(max_model_len=length), "0.32.0", H100)
    assert isinstance(found, Fits)
    return found


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            {"num_gpu_blocks": "512", "block_size": "128", "kv_cache_size_tokens": "65536",
             "kv_cache_max_concurrency": "128.0", "cache_dtype": "auto"},
            CacheConfigInfo(512, 128, 65536, 128.0),
        ),
        ({"num_gpu_blocks": "None", "block_size": "16"}, CacheConfigInfo(None, 16)),
        ({"num_gpu_blocks": "0", "kv_cache_max_concurrency": "nan"}, CacheConfigInfo()),
        ({"num_gpu_blocks": "9" * 40, "block_size": "-1", "kv_cache_max_concurrency": "inf"}, CacheConfigInfo()),
        ({}, CacheConfigInfo()),
    ],
)  # fmt: skip
def test_labels_are_read_and_never_trusted(labels: dict[str, str], expected: CacheConfigInfo) -> None:
    assert cache_config_info(labels) == expected


def test_the_engines_own_tokens_count() -> None:
    found = corrected(fits("llama-3.1-8b"), CacheConfigInfo(20_000, 16, 320_000, 39.0625))
    assert isinstance(found, Fits)
    assert found.measured
    assert (found.capacity.tokens, found.capacity.concurrent_requests) == (320_000, 39.0625)
    assert found.capacity.longest_context == 8192


def test_blocks_alone_give_tokens_for_full_attention() -> None:
    found = corrected(fits("llama-3.1-8b"), CacheConfigInfo(1000, 16))
    assert isinstance(found, Fits)
    assert found.capacity.tokens == 16_000


def test_blocks_of_a_model_with_sliding_layers_count_by_groups() -> None:
    """Blocks x block size would say 1,024,000 tokens; every request takes blocks of both groups."""
    found = corrected(fits("gemma-2-9b"), CacheConfigInfo(64_000, 16))
    assert isinstance(found, Fits)
    assert found.capacity.tokens == int(64_000 / (512 + 513) * 8192)


def test_tokens_alone_bound_the_context() -> None:
    found = corrected(fits("llama-3.1-8b"), CacheConfigInfo(kv_cache_size_tokens=4000))
    assert isinstance(found, Fits)
    assert (found.capacity.tokens, found.capacity.longest_context) == (4000, 4000)
    assert found.capacity.concurrent_requests == pytest.approx(4000 / 8192)


def test_an_engine_that_says_nothing_corrects_nothing() -> None:
    assert isinstance(corrected(fits("llama-3.1-8b"), CacheConfigInfo(block_size=16)), Unknown)
    assert isinstance(overheads_measured(fits("llama-3.1-8b"), CacheConfigInfo(block_size=16)), Unknown)


def test_the_overheads_that_the_blocks_imply() -> None:
    found = fits("llama-3.1-8b")
    blocks = int(55 * GIB) // (131072 * 16)
    implied = overheads_measured(found, CacheConfigInfo(blocks, 16))
    assert not isinstance(implied, Unknown)
    assert implied / GIB == pytest.approx(79.2 * 0.92 - 14.958 - 55, abs=0.01)
