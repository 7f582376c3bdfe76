"""From what an engine image said of a revision to what keeps the revision from being made, as far as that is sure."""

from collections.abc import Callable, Mapping

from packaging.version import InvalidVersion, Version

from nightshift.api import names
from nightshift.api.preflight import PreflightCheck, PreflightOutcome, PreflightResult
from nightshift.api.revision import Resolved
from nightshift.core.cause import Cause
from nightshift.core.engine_failures import failure_cause
from nightshift.core.engine_log import EXCERPT_LIMIT, EngineFailure, FailureKind, engine_failure, redact

ESCAPE = (
    "Nothing was started for it, and what serves goes on serving. "
    f'With the annotation {names.ANNOTATION_PREFLIGHT}: "off" the engine is started all the same.'
)

OLDEST_DRIVER: Mapping[int, int] = {11: 450, 12: 525, 13: 580}
"""Of a CUDA major version: the oldest driver branch that runs it without libraries of the image's own.
Source: NVIDIA, CUDA Compatibility, minor version compatibility."""

_PLAIN: Mapping[str, str] = {
    "toolParser": "tool parser",
    "reasoningParser": "reasoning parser",
    "givenTemplate": "given chat template",
    "modelTemplate": "model's chat template",
    "configuration": "model configuration",
}
"""What people are told of checks that have other names."""

_OF_THE_MODEL = frozenset(
    {
        FailureKind.CONTEXT_TOO_LONG,
        FailureKind.ARCHITECTURE,
        FailureKind.REMOTE_CODE,
        FailureKind.QUANTIZATION,
        FailureKind.MODEL_FILES,
        FailureKind.MODEL_DAMAGED,
    }
)
"""What vLLM's configuration of a model can be refused for with certainty, where it runs on its own platform."""

_ON_ANY_PLATFORM = frozenset({FailureKind.CONTEXT_TOO_LONG})


def refusal(outcome: PreflightOutcome, resolved: Resolved) -> Cause | None:
    """Why a revision is not made; None where nothing that is sure speaks against it.

    Worked example: arguments Refused with ``unrecognized arguments: --swap-space=4`` by 0.32.0 is EngineArgsRejected,
    `vLLM refuses its arguments: unrecognized arguments: --swap-space=4. vLLM 0.18.0 removed --swap-space. ...`.

    Args:
        outcome: What the image said.
        resolved: What the revision is pinned to.
    """
    found = _other_version(outcome, resolved) or _old_driver(outcome, resolved)
    refused = (check for check in outcome.checks if check.result is PreflightResult.REFUSED)
    causes = (found, *(_named(check, outcome, resolved) for check in refused))
    cause = next((item for item in causes if item is not None), None)
    return Cause(cause.reason, f"{cause.message} {ESCAPE}", definite=True) if cause is not None else None


def summary(outcome: PreflightOutcome) -> str:
    """What an image said of a revision that was made, as sentences.

    Worked example: vLLM 0.32.0 that passes arguments and architecture and cannot judge the model's chat template:
    `The image's own vLLM 0.32.0 accepts: arguments, architecture. Not judged beforehand: model's chat template.`

    Args:
        outcome: Of the preflight.
    """
    held = f"vLLM {outcome.vllm}" if outcome.vllm else "vLLM"
    taken = [_named_check(item) for item in outcome.checks if item.result is PreflightResult.PASSED]
    open_ = [_named_check(item) for item in outcome.checks if item.result is not PreflightResult.PASSED]
    says = f"The image's own {held} accepts: {', '.join(taken)}." if taken else "The image itself could not judge."
    return f"{says} Not judged beforehand: {', '.join(open_)}." if taken and open_ else says


def _named_check(check: PreflightCheck) -> str:
    return _PLAIN.get(check.check, check.check)


def redacted(outcome: PreflightOutcome) -> PreflightOutcome:
    """The outcome as it may be stored: arguments that it repeats may hold what looks like a secret."""
    checks = tuple(check.model_copy(update={"said": redact(check.said)}) for check in outcome.checks)
    return outcome.model_copy(update={"checks": checks})


def _named(check: PreflightCheck, outcome: PreflightOutcome, resolved: Resolved) -> Cause | None:
    tell = _CHECKS.get(check.check)
    return tell(check.said, outcome, resolved) if tell is not None else None


def _arguments(said: str, outcome: PreflightOutcome, resolved: Resolved) -> Cause | None:
    found = redact(said)
    excerpt = found if len(found) <= EXCERPT_LIMIT else f"{found[: EXCERPT_LIMIT - 1]}…"
    return failure_cause(EngineFailure(FailureKind.ARGUMENTS, excerpt), resolved.engine_version)


def _known_failure(said: str, outcome: PreflightOutcome, resolved: Resolved) -> Cause | None:
    failure = engine_failure(said)
    sure = _ON_ANY_PLATFORM if outcome.platform is not None else _OF_THE_MODEL
    if failure is None or failure.kind not in sure:
        return None
    return failure_cause(failure, resolved.engine_version)


def _listed(kind: FailureKind) -> Callable[[str, PreflightOutcome, Resolved], Cause | None]:
    """A check of one list, whose sentence is vLLM's own."""

    def tell(said: str, outcome: PreflightOutcome, resolved: Resolved) -> Cause | None:
        failure = engine_failure(said)
        return failure_cause(failure, resolved.engine_version) if failure is not None and failure.kind is kind else None

    return tell


def _given_template(said: str, outcome: PreflightOutcome, resolved: Resolved) -> Cause | None:
    return Cause(
        "ChatTemplateBroken",
        f"The template of --chat-template cannot be read: {redact(said).rstrip('.')}. Every chat request would fail. "
        "Correct the template, or remove the argument to use the model's own.",
        definite=True,
    )


def _model_template(said: str, outcome: PreflightOutcome, resolved: Resolved) -> Cause | None:
    return Cause(
        "ChatTemplateBroken",
        f"The model's chat template cannot be read: {redact(said).rstrip('.')}. Every chat request would fail. Correct "
        "it where the model comes from, or give another one by --chat-template in engine.args.",
        definite=True,
    )


_CHECKS: Mapping[str, Callable[[str, PreflightOutcome, Resolved], Cause | None]] = {
    "arguments": _arguments,
    "toolParser": _arguments,
    "reasoningParser": _arguments,
    "architecture": _listed(FailureKind.ARCHITECTURE),
    "quantization": _listed(FailureKind.QUANTIZATION),
    "givenTemplate": _given_template,
    "modelTemplate": _model_template,
    "configuration": _known_failure,
}
"""By the name of the check; refusals of checks that are not known here are passed over."""


def _release(text: str | None) -> Version | None:
    """A release; builds from a development tree say nothing about which release they are like."""
    try:
        found = Version(text) if text else None
    except InvalidVersion:
        return None
    return found if found is not None and not found.is_devrelease and found.release[:2] > (0, 1) else None


def _other_version(outcome: PreflightOutcome, resolved: Resolved) -> Cause | None:
    """An image that holds another release than its tag says: arguments are chosen, and advisories told, by version.

    Worked example: 0.32.0+cpu is 0.32.0; 0.31.0 is not, and 0.32.1.dev7 is not judged.
    """
    held, asked = _release(outcome.vllm), _release(resolved.engine_version)
    if held is None or asked is None or held.public == asked.public:
        return None
    return Cause(
        "EngineVersionMismatch",
        f"Image {resolved.engine_image} of version {resolved.engine_version} holds vLLM {held.public}. Set "
        f"engine.version to what the image holds, or engine.image to one that holds {resolved.engine_version}.",
        definite=True,
    )


def _old_driver(outcome: PreflightOutcome, resolved: Resolved) -> Cause | None:
    """A node whose driver is too old for the image's CUDA; nothing is claimed where the image brings libraries for it.

    Worked example: CUDA 13.0 and driver 570.86.10: CudaDriverMismatch; with driver 580.65.06, none.
    """
    major, branch = _leading(outcome.cuda), _leading(outcome.driver)
    oldest = OLDEST_DRIVER.get(major) if major is not None else None
    if branch is None or oldest is None or branch >= oldest or outcome.compat is not None:
        return None
    said = f"CUDA {outcome.cuda} needs driver {oldest} or newer, and the node has {outcome.driver}"
    return failure_cause(EngineFailure(FailureKind.DRIVER, said), resolved.engine_version)


def _leading(text: str | None) -> int | None:
    head = (text or "").partition(".")[0]
    return int(head) if head.isascii() and head.isdigit() else None
