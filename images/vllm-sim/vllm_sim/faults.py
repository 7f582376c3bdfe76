"""Faults that can be switched on at start or while running, and which requests a share of them hits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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


class After(BaseModel):
    """When faults begin: so long after they were switched on, or the start, and after so many sound requests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = Field(default=0.0, ge=0.0)
    requests: int = Field(default=0, ge=0)


AT_START = ("no-blocks", "max-model-len", "not-free")
OutOfMemory = Literal["no-blocks", "max-model-len", "not-free", "cuda", "killed"]
KILLED = 137
"""Exit code of a process that the kernel killed: 128 + SIGKILL."""
UNHEALTHY_SECONDS = 5.0
"""For so long vLLM's server outlives its engine (measured with 0.32.0)."""


class Faults(BaseModel):
    """What is wrong with the engine; the empty object is a sound one.

    Attributes:
        hang: the engine makes no step any more; /health stays 200 and the metrics freeze.
        crash: the engine dies.
        slow: factor on every step's time.
        errors: a share of requests fails.
        damage: share of answers that are wrong (known questions) and of words that are garbled.
        oom: how memory runs out. Of the accelerator: no memory left, none for a request of full length, none free, or
            an allocation that fails (cuda). Of the container: the kernel kills the process (killed). The last two
            strike while weights are loaded, or later if they are to begin later; the others at the start only.
        stuck_loading: the engine never becomes ready.
        abort: how requests that a shutdown cuts off end: with their reason, with an error, or not at all. Real
            vLLM does each of these, as its race between telling the engine to stop and killing it falls out.
        after: when they begin; the engine is a sound one until then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hang: bool = False
    crash: Crash | None = None
    slow: float = Field(default=1.0, gt=0.0)
    errors: Errors | None = None
    damage: Share = 0.0
    oom: OutOfMemory | None = None
    stuck_loading: bool = False
    abort: Literal["reason", "error", "silent"] = "reason"
    after: After | None = None

    @model_validator(mode="after")
    def _begins_in_time(self) -> Faults:
        if self.after is not None and (self.stuck_loading or self.oom in AT_START):
            raise ValueError("an engine that serves cannot fail to start: remove after")
        return self

    @property
    def death(self) -> Crash | None:
        """How the process ends, if it does once they are in force."""
        if self.oom == "killed":
            return Crash(exit_code=KILLED)
        if self.oom == "cuda":
            return self.crash or Crash(unhealthy_seconds=UNHEALTHY_SECONDS)
        return self.crash


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
