"""How many requests a replica is given at a time."""

from typing import Any

import pytest

from nightshift.api.status import FitStatus
from nightshift.core.concurrency import concurrent_requests, unknown_requests
from tests.support.builders import config, model_spec, revision
from tests.support.simulation import with_accelerators


def fit(tokens: int, requests: int | None = None) -> FitStatus:
    return FitStatus(source="Measured", kv_tokens=tokens, concurrent_requests=requests)


def on(memory: float | None, *args: str) -> Any:
    chosen = with_accelerators(config(), "nvidia-gpu", memory_gib=memory)
    return revision(model_spec(engine={"args": list(args)}), chosen=chosen)


CPU = model_spec(hardware={"candidates": [{"accelerator": "cpu"}]})


@pytest.mark.parametrize(
    ("stored", "holds", "expected"),
    [
        pytest.param(on(79.3), fit(450_000, 3), 439, id="an H100: what its KV cache holds in requests of 1,024 tokens"),
        pytest.param(on(79.3), None, 1024, id="an H100 of which nothing is known yet: vLLM's default"),
        pytest.param(on(24), None, 256, id="a smaller card: vLLM's default for it"),
        pytest.param(on(None), None, 256, id="a card of unknown size: the smaller default"),
        pytest.param(revision(CPU), None, 128, id="a processor: 128"),
        pytest.param(on(79.3, "--max-num-seqs=16"), fit(131_072), 16, id="what the arguments say"),
        pytest.param(on(79.3, "--max_num_seqs", "1K"), None, 1024, id="in any spelling that vLLM takes"),
        pytest.param(on(79.3, "--max-num-batched-tokens=100"), None, 100, id="not more than a batch has tokens"),
        pytest.param(on(79.3, "--max-num-seqs=16"), fit(4096, 8), 8, id="a small cache with a short longest context"),
        pytest.param(on(79.3, "--max-num-seqs=16"), fit(100, None), 1, id="never none"),
        pytest.param(on(79.3, "--max-num-seqs=1m"), None, 100_000, id="never more than the gateway takes"),
    ],
)
def test_requests_of_a_replica(stored: Any, holds: FitStatus | None, expected: int) -> None:
    assert concurrent_requests(stored, holds) == expected


def test_pods_of_which_only_the_template_is_known_get_what_it_says_or_little() -> None:
    engine = {"name": "engine", "args": ["m", "--max-num-seqs=4"]}
    assert unknown_requests({"spec": {"containers": [{"name": "spy"}, engine]}}) == 4
    assert unknown_requests({}) == 128
