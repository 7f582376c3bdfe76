"""Is a quantization possible: against the checkpoint, the vLLM version and the accelerator.

The tables say only what has been read in vLLM's sources (0.8.5, 0.10.0, 0.10.2, 0.11.0, 0.12.0, 0.13.0, 0.14.0,
0.16.0 to 0.20.0, 0.22.0, 0.23.0, 0.24.0, 0.26.0 to 0.28.0, 0.30.0 to 0.33.0: QUANTIZATION_METHODS in
vllm/model_executor/layers/quantization/__init__.py and `get_min_capability` of each method). Where a version between
two of them is unsure the method is let through, and vLLM's own check in the preflight decides.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from packaging.version import Version

from nightshift.api.model_facts import ModelFacts, QuantizationFacts
from nightshift.core.facts import Unknown
from nightshift.core.fit.weights import ONLINE_BITS

Capability: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Accepted:
    """vLLM would take it; method is the one in effect, None for an unquantized model."""

    method: str | None


@dataclass(frozen=True)
class Refused:
    """vLLM would not; the message is one sentence with what would work."""

    message: str
    works: tuple[str, ...] = ()
    """Values of model.quantization that were checked to work here; empty text: leave it out."""


Check: TypeAlias = Accepted | Refused | Unknown


@dataclass(frozen=True)
class Method:
    """One value of --quantization."""

    since: str = "0"
    until: str | None = None
    """The first version known to be without it."""
    capability: tuple[tuple[str, Capability], ...] = (("0", (7, 0)),)
    """The least CUDA compute capability, by version from which it counts."""


def _from(*rows: tuple[str, int, int]) -> tuple[tuple[str, Capability], ...]:
    return tuple((since, (major, minor)) for since, major, minor in rows)


_MARLIN = _from(("0", 8, 0), ("0.14", 7, 5))
_ONLINE = _from(("0", 7, 5))
METHODS: dict[str, Method] = {
    "auto_awq": Method(since="0.24", capability=_from(("0", 7, 5))),
    "auto_gptq": Method(since="0.21", capability=_from(("0", 6, 0))),
    "awq": Method(capability=_from(("0", 7, 5))),
    "awq_marlin": Method(capability=_MARLIN),
    "bitsandbytes": Method(until="0.28", capability=_from(("0", 7, 0))),
    "compressed-tensors": Method(capability=_from(("0", 7, 0))),
    "experts_int8": Method(capability=_from(("0", 8, 0))),
    "fbgemm_fp8": Method(capability=_from(("0", 8, 0))),
    "fp8": Method(capability=_MARLIN),
    "fp8_per_block": Method(since="0.20", capability=_ONLINE),
    "fp8_per_channel": Method(since="0.24", capability=_ONLINE),
    "fp8_per_tensor": Method(since="0.20", capability=_ONLINE),
    "gguf": Method(until="0.24", capability=_from(("0", 6, 0))),
    "gpt_oss_mxfp4": Method(since="0.20", capability=_from(("0", 8, 0))),
    "gptq": Method(capability=_from(("0", 6, 0))),
    "gptq_marlin": Method(capability=_from(("0", 8, 0), ("0.14", 7, 5), ("0.22", 6, 0))),
    "hqq": Method(until="0.16", capability=_from(("0", 8, 0))),
    "int8_per_channel_weight_only": Method(since="0.20", capability=_ONLINE),
    "modelopt": Method(capability=_from(("0", 8, 9), ("0.28", 8, 0))),
    "modelopt_fp4": Method(since="0.9", capability=_from(("0", 10, 0), ("0.10", 8, 0), ("0.14", 7, 5))),
    "moe_wna16": Method(capability=_from(("0", 7, 0))),
    "mxfp4": Method(since="0.10.1", capability=_from(("0", 8, 0))),
    "nvfp4_per_token": Method(since="0.25", capability=_ONLINE),
    "quark": Method(capability=_from(("0", 7, 0))),
    "torchao": Method(capability=_from(("0", 7, 5))),
}
REPLACED: dict[str, str] = {"hqq": "gptq", "gguf": "gptq or awq", "bitsandbytes": "fp8"}

SAME_FORMAT: dict[str, tuple[str, ...]] = {
    "awq": ("awq", "awq_marlin", "auto_awq", "moe_wna16"),
    "gptq": ("gptq", "gptq_marlin", "auto_gptq", "moe_wna16"),
    "mxfp4": ("mxfp4", "gpt_oss_mxfp4"),
    "modelopt": ("modelopt", "modelopt_fp4"),
}
"""Which values read a checkpoint of which quant_method, besides the method's own name."""

_DEPRECATED = {"fbgemm_fp8": Version("0.32")}
"""Refused from these versions on unless --allow-deprecated-quantization is given (`_verify_quantization`)."""


@dataclass(frozen=True)
class _Case:
    facts: ModelFacts
    version: Version
    capability: Capability | None
    deprecated_allowed: bool = False
    seen: frozenset[str] = field(default_factory=frozenset)


def check_quantization(
    requested: str | None,
    facts: ModelFacts,
    version: str,
    capability: Capability | None,
    allow_deprecated: bool = False,
) -> Check:
    """Would vLLM take this quantization.

    Args:
        requested: model.quantization, or --quantization; None: whatever the checkpoint is.
        facts: The model.
        version: Of vLLM.
        capability: CUDA compute capability of the accelerator, such as (9, 0); None when not known.
        allow_deprecated: --allow-deprecated-quantization is given.

    Returns:
        Accepted, Refused with what would work, or Unknown when what decides is not known.

    Examples: awq on an unquantized checkpoint: refused, fp8 works on an H100. fp8 on an AWQ checkpoint: refused,
    leave it out. A bitsandbytes checkpoint on vLLM 0.32: refused, 0.27 is the last to read it.
    """
    case = _Case(facts, Version(version), capability, allow_deprecated)
    stored = facts.quantization
    if requested is None:
        return Accepted(None) if stored is None else _check(stored.method, case, stored)
    if stored is None:
        return _unquantized(requested, case)
    if requested != stored.method and requested not in SAME_FORMAT.get(stored.method, ()):
        works = _works(case, ("",))
        return Refused(
            f"the checkpoint is already quantized with {stored.method}, and {requested} cannot be put on top; "
            + ("leave model.quantization out" if works else "use another checkpoint"),
            works,
        )
    return _check(requested, case, stored)


def _unquantized(requested: str, case: _Case) -> Check:
    if requested in METHODS and requested not in ONLINE_BITS:
        works = _works(case)
        return Refused(
            f"{requested} needs a checkpoint quantized with it, and this model is not quantized; " + _use(works), works
        )
    return _check(requested, case, None)


def _check(name: str, case: _Case, stored: QuantizationFacts | None) -> Check:
    method = METHODS.get(name)
    if method is None:
        return Unknown(f"quantization {name} has not been compared yet")
    if case.version < Version(method.since):
        works = _works(case)
        return Refused(f"vLLM {case.version} does not know {name} yet, {method.since} does; {_use(works)}", works)
    if method.until is not None and case.version >= Version(method.until):
        return _gone(name, method, case, stored)
    if name in _DEPRECATED and case.version >= _DEPRECATED[name] and not case.deprecated_allowed:
        return Refused(
            f"vLLM {case.version} refuses {name} as deprecated; add --allow-deprecated-quantization to engine.args or "
            "use a checkpoint in fp8 or compressed-tensors"
        )
    needed = _needed(name, method, case, stored)
    if case.capability is None:
        return Unknown(f"{name} needs compute capability {_text(needed)}, and the accelerator's is not known")
    if case.capability < needed:
        works = () if stored else _works(case)
        remedy = _use(works) if not stored else "use a newer accelerator or another checkpoint"
        return Refused(
            f"{name} needs compute capability {_text(needed)}, and this accelerator has {_text(case.capability)}; "
            f"{remedy}",
            works,
        )
    return Accepted(name)


def _gone(name: str, method: Method, case: _Case, stored: QuantizationFacts | None) -> Refused:
    works = () if stored else _works(case)
    remedy = (
        f"use a version before {method.until} or a checkpoint in {REPLACED.get(name, 'fp8')}"
        if stored
        else f"{_use(works)}, or a version before {method.until}"
    )
    return Refused(f"vLLM {case.version} has no {name} any more; {remedy}", works)


def _needed(name: str, method: Method, case: _Case, stored: QuantizationFacts | None) -> Capability:
    needed = [least for since, least in method.capability if Version(since) <= case.version][-1]
    if name != "compressed-tensors" or stored is None or stored.weight_bits is None:
        return needed
    # compressed_tensors/schemes: W4A8 fp8 9.0; others Turing, where before 0.14 Marlin's weight-only ones were 8.0.
    if stored.weight_bits == 4 and stored.activation_bits == 8 and stored.weight_type == "int":
        return (9, 0)
    weight_only = stored.activation_bits is None or stored.weight_type == "float"
    return (8, 0) if weight_only and case.version < Version("0.14") else (7, 5)


def _works(case: _Case, candidates: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Values that this same check accepts here; the empty text stands for leaving it out."""
    if candidates is None:
        candidates = ("fp8", "int8_per_channel_weight_only", "bitsandbytes") if not case.facts.quantization else ("",)
    good = []
    for name in candidates:
        if name in case.seen:
            continue
        inner = _Case(case.facts, case.version, case.capability, case.deprecated_allowed, case.seen | {*candidates})
        checked = _check(name, inner, None) if name else _stored_check(inner)
        if isinstance(checked, Accepted):
            good.append(name)
    return tuple(good)


def _stored_check(case: _Case) -> Check:
    stored = case.facts.quantization
    return Accepted(None) if stored is None else _check(stored.method, case, stored)


def _use(works: tuple[str, ...]) -> str:
    named = [name for name in works if name]
    return f"{' or '.join(named)} would work here" if named else "leave model.quantization out"


def _text(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"
