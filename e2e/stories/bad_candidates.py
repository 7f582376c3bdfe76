"""Candidates that are not to be promoted, each with the reason for which it is rolled back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2e.stories.bad_inputs import SMALL, printed

HANGS = {"in the middle of a request": None, "with its first request": {"hang": True}}
"""With its first one it has counted nothing yet, and says that nothing runs."""


@dataclass(frozen=True)
class Bad:
    """A candidate that is not to be promoted."""

    what: str
    """As a sentence."""
    engine: dict[str, Any]
    """How it differs from a sound one, as `simulated` takes it."""
    reason: str
    says: str
    """Words of its evidence."""
    judged: bool = True
    """Whether it comes so far that clients' requests reach it."""
    failed: int = 0
    """Client requests that may fail: the gateway asks again within a revision, so those that a candidate's only replica
    takes with it, and those that come before the gateway hears that it is gone."""


LIMITS = {"memory": "256Mi"}


def faulty(**faults: Any) -> dict[str, Any]:
    """A simulated engine with faults."""
    return {"faults": faults}


def prints(text: str) -> dict[str, Any]:
    """An engine that ends with a recorded text of vLLM."""
    return {"variables": {entry["name"]: entry["value"] for entry in printed(text)["env"]}}


SLOWER = Bad("it has half the speed", faulty(slow=2.0), "JudgedWorse", "(bound 1.3x)")
OTHERS: Mapping[str, Bad] = {
    "errors": Bad(
        "one in twenty requests fails", faulty(errors={"share": 0.05, "status": 500}), "JudgedWorse", "errors "
    ),
    "crash": Bad("it crashes", faulty(crash={"exit_code": 1}), "EngineCrashed", "ended with code 1", judged=False),
    "no-kv-cache": Bad(
        "no memory is left for its KV cache", faulty(oom="no-blocks"), "DoesNotFit", "No available memory", judged=False
    ),
    "oom-at-start": Bad(
        "it runs out of the accelerator's memory",
        prints("torch-2.13.0-cuda-out-of-memory"),
        "OutOfGpuMemory",
        "22.06 GiB",
        judged=False,
    ),
    "oom-while-serving": Bad(
        "it runs out of the accelerator's memory while it serves",
        faulty(oom="cuda", after={"requests": 20}),
        "OutOfGpuMemory",
        "ran out of accelerator memory",
        failed=40,
    ),
    "killed": Bad(
        "it uses more memory than its pod may",
        {"faults": {"oom": "killed"}, "podTemplate": {"resources": {**SMALL["resources"], "limits": LIMITS}}},
        "OutOfMemory",
        "used more memory than its limit",
        judged=False,
    ),
    "stuck-loading": Bad(
        "it loads for longer than it may",
        {"faults": {"stuck_loading": True}, "deadline": 60},
        "EngineStartTooSlow",
        "engine.startDeadlineSeconds",
        judged=False,
    ),
}
"""By the names of the deployments whose candidates they are."""
