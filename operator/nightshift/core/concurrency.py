"""How many requests one replica works on at the same time, as its engine was started."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from nightshift.api import names
from nightshift.api.config import AcceleratorProfile
from nightshift.api.status import FitStatus
from nightshift.core.fit.overheads import batch
from nightshift.core.fit.settings import EngineSettings, engine_settings
from nightshift.core.fit.traits import GIB, memory_traits
from nightshift.core.revisions import Revision

TYPICAL_TOKENS = 1024
"""Tokens of prompt and answer together that a request is taken to have. Longer ones wait in the engine, not here."""

CPU_REQUESTS = 128
"""vLLM's --max-num-seqs on processors, for each of its ranks (`EngineArgs.get_batch_defaults`, 0.32.0)."""

_MOST = 100_000


def concurrent_requests(revision: Revision, fit: FitStatus | None) -> int:
    """Requests that one replica of a revision works on at a time.

    min(seqs, max(longest, tokens / 1024)), where seqs is --max-num-seqs as its engine was started, or vLLM's default;
    tokens is what its KV cache holds, and longest how many requests of the longest context that is. Without a known
    KV cache: seqs.

    The default is 1,024 on accelerators from 70 GiB on, A100 apart, and 256 on others and on those whose memory is not
    known; on processors 128 per rank.

    Worked example: Llama 3.1 8B on an H100: 1,024 by default, a cache of 450,000 tokens, which is 3 requests of
    131,072: min(1,024, max(3, 439)) = 439. On two cores with --max-num-seqs=16 and 131,072 tokens: min(16, 128) = 16.

    Args:
        revision: As stored.
        fit: What one replica of it holds; None where that is not known.
    """
    settings = engine_settings(engine_arguments(revision.record.pod_template))
    seqs = settings.max_num_seqs or _default(revision, settings)
    if fit is not None and fit.kv_tokens:
        seqs = min(seqs, max(fit.concurrent_requests or 1, fit.kv_tokens // TYPICAL_TOKENS))
    return max(1, min(seqs, _MOST))


def unknown_requests(template: Mapping[str, Any]) -> int:
    """The same for pods of which nothing but their template is known: as they say, else vLLM's smallest default."""
    return min(engine_settings(engine_arguments(template)).max_num_seqs or CPU_REQUESTS, _MOST)


def engine_arguments(template: Mapping[str, Any]) -> Sequence[str]:
    """The arguments of the engine in a pod template."""
    containers = (template.get("spec") or {}).get("containers") or ()
    return next((item.get("args") or () for item in containers if item.get("name") == names.ENGINE_CONTAINER), ())


def _default(revision: Revision, settings: EngineSettings) -> int:
    """vLLM's own number, as its API server chooses it by the accelerator; never more than a batch has tokens."""
    try:
        profile = AcceleratorProfile.model_validate(revision.record.inputs.profile)
    except ValidationError:
        profile = AcceleratorProfile(resource_name="unknown")
    if profile.resource_name is None:
        requests = CPU_REQUESTS * (settings.tensor_parallel or 1) * settings.pipeline_parallel
    else:
        memory = int((profile.memory_gib or 0) * GIB)
        resolved = revision.resolved
        requests = batch(settings, memory_traits(resolved.engine_version), memory, resolved.accelerator, 1).requests
    return min(requests, settings.max_num_batched_tokens or requests)
