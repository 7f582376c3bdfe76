"""The command as a container runs it: a process that can be killed."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.hub.running import RunningHub
from nightshift.api.fetch import Downloaded, Failed, FetchReason, parse_outcome
from nightshift.fetch.manifest import complete
from nightshift.fetch.room import PARTIAL_NAME
from tests.fetch.conftest import URI, WEIGHTS, Fetch

REPOSITORY = Path(__file__).parents[2]
DEADLINE_SECONDS = 20


class Process:
    """`python -m nightshift.fetch download` into a directory."""

    def __init__(
        self, hub: RunningHub, sha: str, target: Path, limit_bytes: int | None = None, stall: str = "600"
    ) -> None:
        def limit() -> None:
            if limit_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        self.log = target.with_name(f"termination-log-{time.monotonic_ns()}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "nightshift.fetch", "download", "--uri", URI, "--sha", sha),
                *("--to", str(target), "--termination-log", str(self.log), "--stall-seconds", stall),
            ],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(REPOSITORY / "operator"),
                "HF_ENDPOINT": hub.url,
                "HF_TOKEN": "hf_secretsecret",
                "HF_DEBUG": "1",
                "HOME": "/nonexistent",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=limit,
        )

    def stop(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        self.wait()
        return self._process.returncode

    def wait(self) -> str:
        output, _ = self._process.communicate(timeout=DEADLINE_SECONDS)
        assert "hf_secret" not in output
        return output


@pytest.fixture
def sha(fetch: Fetch, hub: RunningHub, root: Path) -> str:
    (root / "acme" / "tiny" / ".gated").write_text("hf_secretsecret")
    return fetch.resolve(token="hf_secretsecret").resolved.sha


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny"


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # it has got its final name meanwhile


def until_written(target: Path, size: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while max(map(size_of, target.glob(f"{PARTIAL_NAME}/*.part")), default=0) < size:
        assert time.monotonic() < deadline, "the download did not begin"
        time.sleep(0.02)


def first_byte(hub: RunningHub) -> int:
    """Where the latest request for the weights began."""
    asked = hub.asked("/_cdn/")[-1].range
    assert asked is not None
    return int(asked.removeprefix("bytes=").removesuffix("-"))


def test_a_killed_download_goes_on_where_it_ended(sha: str, target: Path, hub: RunningHub) -> None:
    hub.faults({"match": "/_cdn/*", "stall_after_bytes": 400_000, "times": 1})
    first = Process(hub, sha, target)
    until_written(target, 390_000)
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    assert not complete(target, sha)
    second = Process(hub, sha, target)
    second.wait()
    assert parse_outcome(second.log.read_text()) == Downloaded(sha=sha, files=3, bytes=len(WEIGHTS) + 24)
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert first_byte(hub) >= 390_000


def test_a_standing_download_is_told_and_goes_on_later(sha: str, target: Path, hub: RunningHub) -> None:
    hub.faults({"match": "/_cdn/*", "stall_after_bytes": 300_000})
    first = Process(hub, sha, target, stall="1")
    first.wait()
    outcome = parse_outcome(first.log.read_text())
    assert isinstance(outcome, Failed)
    assert outcome.reason is FetchReason.MODEL_DOWNLOAD_STALLED
    assert f"300024 of {len(WEIGHTS) + 24} bytes" in outcome.message
    assert not complete(target, sha)
    hub.faults()
    second = Process(hub, sha, target)
    second.wait()
    assert isinstance(parse_outcome(second.log.read_text()), Downloaded)
    assert first_byte(hub) >= 290_000


def test_a_silent_hub_is_unreachable(sha: str, target: Path, hub: RunningHub) -> None:
    hub.faults({"delay_seconds": 60})
    process = Process(hub, sha, target, stall="1")
    process.wait()
    outcome = parse_outcome(process.log.read_text())
    assert isinstance(outcome, Failed)
    assert outcome.reason is FetchReason.HUB_UNREACHABLE


def test_a_download_ends_at_once_when_its_pod_is_deleted(sha: str, target: Path, hub: RunningHub) -> None:
    hub.faults({"match": "/_cdn/*", "stall_after_bytes": 100_000})
    process = Process(hub, sha, target)
    until_written(target, 90_000)
    begun = time.monotonic()
    assert process.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 5
    assert not process.log.exists()


def test_two_downloads_of_one_directory_bring_it_once(sha: str, target: Path, hub: RunningHub) -> None:
    hub.faults({"match": "/_cdn/*", "bytes_per_second": len(WEIGHTS)})
    both = [Process(hub, sha, target), Process(hub, sha, target)]
    for process in both:
        process.wait()
    assert all(isinstance(parse_outcome(process.log.read_text()), Downloaded) for process in both)
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert len(hub.asked("/_cdn/")) == 1


def test_a_file_that_the_volume_cannot_hold_is_told(sha: str, target: Path, hub: RunningHub) -> None:
    process = Process(hub, sha, target, limit_bytes=100_000)
    process.wait()
    outcome = parse_outcome(process.log.read_text())
    assert isinstance(outcome, Failed)
    assert outcome.reason is FetchReason.MODEL_CACHE_FULL
