"""What would make a model fit: every remedy named has been judged by the same functions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nightshift.api.model_facts import ModelFacts
from nightshift.core.facts import Unknown
from nightshift.core.fit.quantization import Accepted, Refused, check_quantization
from nightshift.core.fit.settings import EngineSettings
from nightshift.core.fit.shape import model_shape
from nightshift.core.fit.verdict import DoesNotFit, Fits, Hardware, Verdict, assess, splits

_COUNTS = (1, 2, 4, 8, 16)
_SHORTEST = 1024
_MOST_NAMED = 3
_NATIVE_FP8 = (8, 9)


@dataclass(frozen=True)
class Remedy:
    """A change that makes it fit, as a user would make it."""

    text: str
    settings: EngineSettings
    hardware: Hardware


def fit(facts: ModelFacts, settings: EngineSettings, version: str, hardware: Hardware) -> Verdict:
    """Judge one replica; a refusal names up to three remedies that were judged too.

    A quantization that vLLM would refuse is refused here with what would work.

    Example: Llama 3.1 70B on 1 x 80 GiB: `71B in bf16 needs 131 GiB of weights, 1 x 80 GiB at 0.92 gives 73.6 GiB; use
    4 accelerators`.
    """
    checked = check_quantization(
        settings.quantization, facts, version, hardware.capability, settings.allow_deprecated_quantization
    )
    if isinstance(checked, Refused):
        return DoesNotFit(checked.message)
    verdict = assess(facts, settings, version, hardware)
    if not isinstance(verdict, DoesNotFit):
        return verdict
    found = remedies(facts, settings, version, hardware, verdict)
    if not found:
        text = "no shorter context, fp8 or count up to 16 was found to fit"
    else:
        names = [remedy.text for remedy in found[:_MOST_NAMED]]
        text = "use " + (names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}")
    return replace(verdict, message=f"{verdict.message}; {text}")


def remedies(
    facts: ModelFacts, settings: EngineSettings, version: str, hardware: Hardware, refusal: DoesNotFit
) -> list[Remedy]:
    """Changes that fit: one alone where there is one, otherwise two at once.

    Of counts that make it fit the next larger one is named, and where the heads or scales cannot be split so, the next
    smaller one too.
    """
    single = list(_single(facts, settings, version, hardware, refusal))
    good = [remedy for remedy in single if _fits(facts, remedy, version)]
    if good:
        return good
    pairs = [
        Remedy(f"{first.text} with {second.text}", second.settings, second.hardware)
        for first in single
        for second in _single(facts, first.settings, version, first.hardware, refusal)
        if second.text != first.text
    ]
    return [remedy for remedy in pairs if _fits(facts, remedy, version)][:1]


def _fits(facts: ModelFacts, remedy: Remedy, version: str) -> bool:
    return isinstance(assess(facts, remedy.settings, version, remedy.hardware), Fits)


def _single(
    facts: ModelFacts, settings: EngineSettings, version: str, hardware: Hardware, refusal: DoesNotFit
) -> Iterator[Remedy]:
    if settings.kv_cache_memory_bytes is not None:
        measured = replace(settings, kv_cache_memory_bytes=None)
        yield Remedy("engine.args without --kv-cache-memory-bytes", measured, hardware)
    native = hardware.capability is not None and hardware.capability >= _NATIVE_FP8
    if facts.quantization is None and settings.quantization is None and native and refusal.budget:
        asked = replace(settings, quantization="fp8")
        if isinstance(check_quantization("fp8", facts, version, hardware.capability), Accepted):
            yield Remedy("fp8", asked, hardware)
    if settings.pipeline_parallel == 1:
        yield from _counts(facts, settings, version, hardware, refusal)
    if refusal.longest_context >= _SHORTEST:
        shorter = refusal.longest_context // _SHORTEST * _SHORTEST
        yield Remedy(f"--max-model-len={shorter}", replace(settings, max_model_len=shorter), hardware)
    if refusal.budget is None and facts.num_experts and not settings.expert_parallel:
        yield Remedy("--enable-expert-parallel", replace(settings, expert_parallel=True), hardware)
    if refusal.budget and native and settings.kv_cache_dtype == "auto":
        yield Remedy("--kv-cache-dtype=fp8", replace(settings, kv_cache_dtype="fp8"), hardware)


def _counts(
    facts: ModelFacts, settings: EngineSettings, version: str, hardware: Hardware, refusal: DoesNotFit
) -> Iterator[Remedy]:
    shape = model_shape(facts)
    if isinstance(shape, Unknown):
        return
    smaller = tuple(count for count in reversed(_COUNTS) if count < hardware.count)
    larger = tuple(count for count in _COUNTS if count > hardware.count)
    for candidates in (smaller if refusal.budget is None else (), larger):
        for count in candidates:
            noun = "accelerator" if count == 1 else "accelerators"
            changed = replace(settings, tensor_parallel=None)
            remedy = Remedy(f"{count} {noun}", changed, replace(hardware, count=count))
            if splits(shape, count) and _fits(facts, remedy, version):
                yield remedy
                break
