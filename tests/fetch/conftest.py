import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub import close_session

from e2e.hub.running import RunningHub
from nightshift.api.fetch import (
    Downloaded,
    Failed,
    FetchOutcome,
    Progress,
    Resolved,
    parse_outcome,
    parse_progress,
)
from nightshift.fetch.__main__ import main

URI = "hf://acme/tiny"
WEIGHTS = bytes(range(256)) * 2048


@dataclass
class Ended:
    """What one run of the command left."""

    status: int
    outcome: FetchOutcome | None
    output: str
    progress: list[Progress] = field(default_factory=list)

    @property
    def failed(self) -> Failed:
        assert isinstance(self.outcome, Failed), self.outcome
        assert self.status == 1
        return self.outcome

    @property
    def resolved(self) -> Resolved:
        assert isinstance(self.outcome, Resolved), self.outcome
        assert self.status == 0
        return self.outcome

    @property
    def downloaded(self) -> Downloaded:
        assert isinstance(self.outcome, Downloaded), self.outcome
        assert self.status == 0
        return self.outcome


def end_threads() -> None:
    """Wait for what the end of the process would end: connections of one test must not reach into the next.

    What hangs for longer is for tests with a process of its own.
    """
    for thread in threading.enumerate():
        if thread.name.startswith("fetch"):
            thread.join(timeout=10)
            assert not thread.is_alive(), f"{thread.name} goes on after the command has ended"
    close_session()


class Fetch:
    """Runs the command in this process, against the Hub of the test."""

    def __init__(self, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = tmp_path / "termination-log"
        self._capfd = capfd
        self._monkeypatch = monkeypatch

    def __call__(self, *argv: str, token: str | None = None) -> Ended:
        if token is not None:
            self._monkeypatch.setenv("HF_TOKEN", token)
        self._log.unlink(missing_ok=True)
        status = main([*argv, "--termination-log", str(self._log)])
        end_threads()
        output = "".join(self._capfd.readouterr())
        said = self._log.read_text() if self._log.exists() else ""
        progress = [found for line in output.splitlines() if (found := parse_progress(line))]
        assert not said or said in output
        return Ended(status, parse_outcome(said), output + said, progress)

    def resolve(
        self, revision: str = "main", uri: str = URI, token: str | None = None, deadline_seconds: float = 5
    ) -> Ended:
        return self(
            "resolve", "--uri", uri, "--revision", revision, "--deadline-seconds", str(deadline_seconds), token=token
        )

    def download(self, sha: str, to: Path, stall_seconds: float = 10, token: str | None = None) -> Ended:
        limit = str(stall_seconds)
        return self("download", "--uri", URI, "--sha", sha, "--to", str(to), "--stall-seconds", limit, token=token)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Hub's directory with one model in safetensors, and a copy of it in another format."""
    model = tmp_path / "hub" / "acme" / "tiny"
    (model / "original").mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({"model_type": "tiny"}))
    (model / "tokenizer.json").write_text("{}")
    (model / "README.md").write_text("# Tiny")
    (model / "model.safetensors").write_bytes(WEIGHTS)
    (model / "pytorch_model.bin").write_bytes(b"x")
    (model / "original" / "consolidated.00.pth").write_bytes(b"x")
    return tmp_path / "hub"


@pytest.fixture
def hub(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHub]:
    with RunningHub(root) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def fetch(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fetch:
    # Set, so that what the command changes is taken back after the test.
    for name in ("XET", "TELEMETRY", "IMPLICIT_TOKEN", "PROGRESS_BARS"):
        monkeypatch.setenv(f"HF_HUB_DISABLE_{name}", "1")
    monkeypatch.setenv("HF_TOKEN", "")
    return Fetch(tmp_path, capfd, monkeypatch)
