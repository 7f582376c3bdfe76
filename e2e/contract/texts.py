"""``python -m e2e.contract.texts VERSION``: record what real vLLM prints when it cannot start, in the cluster in use.

The texts are what the causes are tested with (tests/core/test_engine_log.py). Each start is named as the operator
would name it; with ``--check`` nothing is written, and the run fails where a start is not of the kind that the
recorded text of this version is.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from e2e.cluster import ClusterError
from e2e.contract import failing_starts, pods
from e2e.support.lane import ROOT
from nightshift.core.engine_failures import failure_cause
from nightshift.core.engine_log import FailureKind, engine_failure

TEXTS = ROOT / "tests" / "core" / "engine_texts"
PROGRAM = Path(failing_starts.__file__).read_text(encoding="utf-8")
SECONDS = 1500.0
"""For all cases together."""

_COMMON = ("--host=127.0.0.1", "--port=8123", "--served-model-name=tiny", "--enforce-eager")
_SMALL = (*_COMMON, "--max-model-len=512", "--kv-cache-memory-bytes=67108864", "--max-num-seqs=16")


@dataclass(frozen=True)
class Case:
    """One start that fails."""

    more: tuple[str, ...] = ()
    """Arguments beyond the common ones."""
    model: str = "tiny"
    """Which copy of the tiny model; see failing_starts.make_models."""
    common: tuple[str, ...] = _SMALL


CASES: Mapping[str, Case] = {
    "unknown-flag": Case(("--speed=ludicrous",)),
    "bad-value": Case(("--max-model-len=many",), common=_COMMON),
    "ambiguous": Case(("--max=3",)),
    "dtype": Case(("--dtype=float7",)),
    "expected": Case(("--seed",)),
    "kv-dtype": Case(("--kv-cache-dtype=fp9",)),
    "lora-rank": Case(("--enable-lora", "--max-lora-rank=7")),
    "spec-json": Case(("--speculative-config={broken",)),
    "swap-space": Case(("--swap-space=4",)),
    "task": Case(("--task=embed",)),
    "unicode": Case(("--chat-template-content-format=日本",)),
    "tool-none": Case(("--enable-auto-tool-choice",)),
    "tool-parser": Case(("--enable-auto-tool-choice", "--tool-call-parser=nosuch")),
    "reasoning": Case(("--reasoning-parser=nosuch",)),
    "chat-template": Case(("--chat-template=/no/such/file.jinja",)),
    "port": Case((f"--port={failing_starts.TAKEN_PORT}",)),
    "context": Case(("--max-model-len=9999999",)),
    "batched": Case(("--max-num-batched-tokens=16", "--no-enable-chunked-prefill")),
    "seqs": Case(("--max-num-seqs=0",)),
    "util": Case(("--gpu-memory-utilization=7",), common=_COMMON),
    "quant-unknown": Case(("--quantization=int3",)),
    "quant-mismatch": Case(("--quantization=gptq",), "awq"),
    "arch": Case(model="arch"),
    "type": Case(model="type"),
    "noconfig": Case(model="noconfig"),
    "badjson": Case(model="badjson"),
    "remote": Case(model="remote"),
    "notokenizer": Case(model="notokenizer"),
}


@dataclass(frozen=True)
class Start:
    """What one start came to."""

    case: str
    code: int | None
    text: str

    @property
    def kind(self) -> FailureKind | None:
        """What the operator finds in it."""
        failure = engine_failure(self.text)
        return failure.kind if failure else None


def plan_of(cases: Mapping[str, Case]) -> str:
    """What the program in the pod is told."""
    listed = {name: {"model": case.model, "arguments": [*case.common, *case.more]} for name, case in cases.items()}
    return json.dumps({"models": pods.MODELS, "cases": listed})


def starts_of(log: str) -> list[Start]:
    """What the program in the pod printed; lines of others are passed over."""
    found = []
    for line in log.splitlines():
        if line.startswith('{"case": '):
            said = json.loads(line)
            found.append(Start(said["case"], said["code"], said["text"]))
    return found


async def record(version: str, cases: Mapping[str, Case]) -> list[Start]:
    """Start the engine image of a version with each case.

    Raises:
        RuntimeError: It did not get through all of them.
    """
    command = ["python3", "-c", PROGRAM, plan_of(cases)]
    try:
        code, log = await pods.run_program(
            f"texts-{version.replace('.', '-')}", f"vllm-cpu:v{version}", command, SECONDS
        )
    finally:
        await pods.clean()
    starts = starts_of(log)
    if code != 0 or len(starts) != len(cases):
        raise RuntimeError(f"{len(starts)} of {len(cases)} starts, and the pod ended with {code}:\n{log[-3000:]}")
    return starts


def path_of(version: str, case: str) -> Path:
    """Where a text lies."""
    return TEXTS / f"vllm-{version}-{case}.txt"


def written(version: str, start: Start) -> str:
    """A text with its header."""
    case = CASES[start.case]
    line = " ".join(["vllm serve", f"{failing_starts.MODELS}/{case.model}", *case.common, *case.more])
    return f"# Printed by vLLM {version}+cpu, `{line}`, exit code {start.code}.\n{start.text.rstrip()}\n"


def told(version: str, start: Start) -> str:
    """How the operator names it, and whether the recorded text of this version is of the same kind."""
    failure = engine_failure(start.text)
    cause = failure_cause(failure, version) if failure else None
    named = f"{cause.reason}: {cause.message}" if cause else "NOT NAMED"
    known = path_of(version, start.case).exists()
    unlike = "" if matches(version, start) else f"  <- {'of another kind than' if known else 'not'} recorded"
    return f"{start.case:<16} exit code {start.code}  {named}{unlike}"


def matches(version: str, start: Start) -> bool:
    """Whether a start is of the kind that is recorded for it; one that was never recorded matches nothing."""
    path = path_of(version, start.case)
    if not path.exists():
        return False
    recorded = engine_failure(path.read_text(encoding="utf-8").split("\n", 1)[1])
    return recorded is not None and recorded.kind is start.kind


def main() -> int:
    """Record or check."""
    parser = argparse.ArgumentParser(prog="python -m e2e.contract.texts", description=__doc__)
    parser.add_argument("version", help="of the engine image vllm-cpu, which must be in the cluster's registry")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases by name")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a kind differs from the record")
    options = parser.parse_args()
    cases = {name: case for name, case in CASES.items() if fnmatchcase(name, options.only)}
    try:
        starts = asyncio.run(record(options.version, cases))
    except (ClusterError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    unlike = [start.case for start in starts if not matches(options.version, start)]
    print("\n".join(told(options.version, start) for start in starts))
    print(f"{len(starts) - len(unlike)} of {len(starts)} starts are of the kind that is recorded for {options.version}")
    if options.check:
        return int(bool(unlike))
    for start in starts:
        path_of(options.version, start.case).write_text(written(options.version, start), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
