"""How much a replica of a revision holds: as expected from the model's files, and as its engine says once it runs."""

from pydantic import ValidationError

from nightshift.api.config import AcceleratorProfile
from nightshift.api.status import FitStatus, Status
from nightshift.core.facts import Known
from nightshift.core.fit.kv import Capacity
from nightshift.core.fit.observed import CacheConfigInfo, cache_config_info, corrected
from nightshift.core.fit.verdict import Fits, assess
from nightshift.core.observed import Observed
from nightshift.core.preflight import is_computed, replica_hardware, replica_settings
from nightshift.core.revisions import Revision


def fit_status(revision: Revision, observed: Observed, previous: Status) -> FitStatus | None:
    """What to say of a revision; None where nothing is known.

    A measured size stays while no engine tells another: it belongs to the revision, not to the moment.

    Args:
        revision: The target revision.
        observed: What its engines say of their KV cache.
        previous: The status as it stands.
    """
    expects = expected(revision)
    told = observed.cache_config(revision.hash)
    measured = _measured(expects, cache_config_info(told.value)) if isinstance(told, Known) else None
    if measured is not None:
        return measured
    before = previous.fit
    if before is not None and before.source == "Measured" and previous.target_revision == revision.hash:
        return before
    return _status("Estimated", expects.capacity, expects) if expects else None


def expected(revision: Revision) -> Fits | None:
    """What is expected of a revision, from what was known when it was made."""
    facts, spec, resolved = revision.record.facts, revision.spec, revision.resolved
    if facts is None or resolved.lora_rank is not None:
        # What adapters take of the memory is not computed.
        return None
    try:
        profile = AcceleratorProfile.model_validate(revision.record.inputs.profile)
    except ValidationError:
        return None
    settings = replica_settings(spec, resolved, profile)
    if not is_computed(spec, settings):
        return None
    verdict = assess(facts, settings, resolved.engine_version, replica_hardware(resolved, profile))
    return verdict if isinstance(verdict, Fits) else None


def _measured(expects: Fits | None, info: CacheConfigInfo) -> FitStatus | None:
    if expects is not None:
        found = corrected(expects, info)
        return _status("Measured", found.capacity, expects) if isinstance(found, Fits) else None
    tokens, requests = info.kv_cache_size_tokens, info.kv_cache_max_concurrency
    if not tokens:
        return None
    # vLLM defines tokens as requests times the longest context that it was started with.
    whole = requests is not None and requests >= 1
    return FitStatus(
        source="Measured",
        kv_tokens=tokens,
        longest_context=round(tokens / requests) if requests and whole else None,
        concurrent_requests=int(requests) if requests and whole else None,
    )


def _status(source: str, capacity: Capacity, expects: Fits) -> FitStatus:
    return FitStatus.model_validate(
        {
            "source": source,
            "kv_tokens": capacity.tokens,
            "expected_kv_tokens": expects.capacity.tokens,
            "longest_context": capacity.longest_context,
            "concurrent_requests": int(capacity.concurrent_requests),
        }
    )
