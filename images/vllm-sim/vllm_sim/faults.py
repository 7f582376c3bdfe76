"""Faults that can be switched on at start or while running, and which requests a share of them hits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

ENGINE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class FaultsError(Exception):
    """The description of faults is wrong; the message says where."""


class Crash(BaseModel):
    """The engine dies: /health answers 503 for a while, then the process exits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exit_code: int = Field(default=1, ge=0, le=255)
    unhealthy_seconds: float = Field(default=0.0, ge=0.0)


class Errors(BaseModel):
    """A share of inference requests fails with an error of the server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: Share = 1.0
    status: int = Field(default=500, ge=500, le=599)
    message: str = ENGINE_DEAD


class Faults(BaseModel):
    """What is wrong with the engine; the empty object is a sound one.

    Attributes:
        hang: the engine makes no step any more; /health stays 200 and the metrics freeze.
        crash: the engine dies now.
        slow: factor on every step's time.
        errors: a share of requests fails.
        damage: share of answers that are wrong (known questions) and of words that are garbled.
        oom: how the engine fails to start: no memory left, none for a request of full length, or none free.
        stuck_loading: the engine never becomes ready.
        abort: how requests that a shutdown cuts off end: with their reason, with an error, or not at all. Real
            vLLM does each of these, as its race between telling the engine to stop and killing it falls out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hang: bool = False
    crash: Crash | None = None
    slow: float = Field(default=1.0, gt=0.0)
    errors: Errors | None = None
    damage: Share = 0.0
    oom: Literal["no-blocks", "max-model-len", "not-free"] | None = None
    stuck_loading: bool = False
    abort: Literal["reason", "error", "silent"] = "reason"


def parse(text: str | bytes) -> Faults:
    """Read faults from JSON.

    Raises:
        FaultsError: not JSON, unknown names, or values out of range.
    """
    try:
        return Faults.model_validate_json(text)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc'])) or 'faults'}: {item['msg']}" for item in error.errors())
        raise FaultsError("; ".join(problems)) from error


class Roulette:
    """Spreads a share evenly over requests: after n draws, floor(n * share) have hit, give or take none.

    Example: share 0.25 hits requests 4, 8, 12, and so on.
    """

    def __init__(self) -> None:
        self._sum = 0.0

    def hit(self, share: float) -> bool:
        """Whether the next request is one of the share."""
        self._sum += share
        if self._sum < 1.0 - 1e-9:
            return False
        self._sum -= 1.0
        return True
