"""What an engine image says of a revision before a GPU is touched: the outcome of a preflight Job.

It travels in the container's termination message, which Kubernetes cuts at 4096 bytes. The writer is a program inside
an image that is not ours (nightshift.probe.program), so the reader takes whatever is there, cuts it, and returns None
where it is no outcome.
"""

import json
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, field_validator

from nightshift.api.base import StoredModel

SAID_LIMIT = 600
"""Characters that are kept of one sentence."""

MOST_CHECKS = 16

_READ_LIMIT = 16 * 1024

Version = Annotated[str, Field(max_length=64)]


class PreflightResult(StrEnum):
    """What one check came to."""

    PASSED = "Passed"
    REFUSED = "Refused"
    """This vLLM would not start so, or would not answer."""
    UNKNOWN = "Unknown"
    """It could not be judged; the engine tries."""


class PreflightCheck(StoredModel):
    """One check; what was not asked for is not among them."""

    check: str = Field(max_length=32, description="Such as arguments or architecture.")
    result: PreflightResult
    said: str = Field(default="", description="What vLLM said, or why it could not be judged.")

    @field_validator("said")
    @classmethod
    def _one_short_line(cls, said: str) -> str:
        line = " ".join("".join(c if c.isprintable() else " " for c in said).split())
        return line if len(line) <= SAID_LIMIT else line[: SAID_LIMIT - 1] + "…"


class PreflightOutcome(StoredModel):
    """What an image said."""

    kind: Literal["Preflight"] = "Preflight"
    vllm: Version | None = Field(default=None, description="The version of vLLM that it holds.")
    cuda: Version | None = Field(default=None, description="The CUDA version that its torch was built for.")
    driver: Version | None = Field(default=None, description="The NVIDIA driver of the node that it was asked on.")
    compat: Version | None = Field(default=None, description="Set where it brings libraries for older drivers.")
    platform: Version | None = Field(
        default=None, description="Set where vLLM saw no device, and judged as if it ran on the processor."
    )
    checks: tuple[PreflightCheck, ...] = Field(default=(), max_length=MOST_CHECKS)


class StoredPreflight(StoredModel):
    """An outcome as it is stored with the revision that was made upon it."""

    request: str = Field(max_length=64, description="Hash of image, arguments, variables and model that were asked.")
    outcome: PreflightOutcome


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


OptionalPreflight = Annotated[StoredPreflight | None, WrapValidator(_or_none)]
"""A stored outcome inside something else that must stay readable without it."""


def parse_preflight(text: str | None) -> PreflightOutcome | None:
    """Read a termination message, or the end of a log that stands in for one; the last line that is one counts."""
    for line in reversed((text or "")[-_READ_LIMIT:].splitlines()):
        try:
            found = json.loads(line)
            if isinstance(found, dict) and found.get("kind") == "Preflight":
                return PreflightOutcome.model_validate(found)
        except (ValueError, RecursionError):
            continue
    return None


def to_message(outcome: PreflightOutcome) -> str:
    """The outcome as the program writes it: one line of JSON."""
    return json.dumps(outcome.to_json(), separators=(",", ":"), ensure_ascii=False)
