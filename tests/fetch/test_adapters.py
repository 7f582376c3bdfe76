import json
import shutil
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from e2e.hub.running import RunningHub
from nightshift.api.adapters import AdapterStates, WantedAdapter, WantedAdapters
from nightshift.api.fetch import AdapterResolved, Downloaded, Failed, FetchOutcome, FetchReason
from nightshift.core.adapter_files import Misfit
from nightshift.fetch.adapter import check
from nightshift.fetch.sidecar import RETRY_SECONDS, Keeper
from tests.fetch.conftest import Fetch
from tests.fetch.test_process import REPOSITORY

URI = "hf://acme/french"
QUERY = "model.layers.0.self_attn.q_proj"
SHA, OTHER = "a" * 40, "b" * 40


def safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))


def write_adapter(directory: Path, rank: int = 8, hidden: int = 16, **config: Any) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    written = {"peft_type": "LORA", "r": rank, "base_model_name_or_path": "acme/tiny", **config}
    (directory / "adapter_config.json").write_text(json.dumps(written))
    name = f"base_model.model.{QUERY}"
    shapes = {f"{name}.lora_A.weight": (rank, hidden), f"{name}.lora_B.weight": (16, rank)}
    safetensors(directory / "adapter_model.safetensors", shapes)


@pytest.fixture
def adapter(root: Path) -> Path:
    directory = root / "acme" / "french"
    write_adapter(directory, rank=24)
    (directory / "optimizer.bin").write_bytes(b"much")
    return directory


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    safetensors(directory / "model-00001-of-00001.safetensors", {f"{QUERY}.weight": (16, 16)})
    return directory


def resolve(fetch: Fetch, *more: str, token: str | None = None) -> FetchOutcome | None:
    return fetch("resolve-adapter", "--uri", URI, "--deadline-seconds", "5", *more, token=token).outcome


def failed(outcome: FetchOutcome | None) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def test_an_adapter_is_resolved_to_a_commit_with_its_rank_and_base(
    fetch: Fetch, hub: RunningHub, adapter: Path
) -> None:
    found = resolve(fetch)
    assert isinstance(found, AdapterResolved)
    assert (found.rank, found.base) == (24, "acme/tiny")
    assert resolve(fetch, "--revision", found.sha) == found
    assert not [asked for asked in hub.asked("optimizer.bin") if asked.method == "GET"]


def test_an_adapter_that_is_missing_or_gated_is_told_in_the_words_of_adapters(
    fetch: Fetch, hub: RunningHub, adapter: Path
) -> None:
    missing = failed(resolve(fetch, "--revision", "none"))
    assert missing.reason is FetchReason.ADAPTER_NOT_FOUND
    assert "correct spec.adapters[].revision" in missing.message
    (adapter / ".gated").write_text("hf_good")
    gated = failed(resolve(fetch))
    assert gated.reason is FetchReason.ADAPTER_ACCESS_DENIED
    assert "set spec.model.tokenSecretRef" in gated.message
    assert isinstance(resolve(fetch, token="hf_good"), AdapterResolved)


def test_a_repository_without_an_adapter_is_told(fetch: Fetch, hub: RunningHub, adapter: Path) -> None:
    (adapter / "adapter_config.json").unlink()
    found = failed(resolve(fetch))
    assert found.reason is FetchReason.ADAPTER_UNUSABLE
    assert "holds no LoRA adapter" in found.message


@pytest.mark.parametrize("content", ['{"r": 8, "use_dora": true}', "not json", "[1]"])
def test_a_configuration_that_cannot_be_served_is_told_before_anything_is_downloaded(
    fetch: Fetch, hub: RunningHub, adapter: Path, content: str
) -> None:
    (adapter / "adapter_config.json").write_text(content)
    found = failed(resolve(fetch))
    assert found.reason is FetchReason.ADAPTER_UNUSABLE
    assert "acme/french" in found.message


def test_files_are_compared_with_the_base_beside_them(tmp_path: Path, base: Path) -> None:
    fitting, wide = tmp_path / "fitting", tmp_path / "wide"
    write_adapter(fitting)
    write_adapter(wide, hidden=20)
    assert check(fitting, base) is None
    found = check(wide, base)
    assert isinstance(found, Misfit)
    assert found.reason is FetchReason.ADAPTER_BASE_MISMATCH
    assert check(wide, tmp_path / "no-such-base") is None, "of a base that cannot be read nothing is known"


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, struct.pack("<Q", 4) + b"null", b"\x02" + bytes(7) + b"{"])
def test_weights_that_are_no_safetensors_are_told(tmp_path: Path, base: Path, content: bytes) -> None:
    broken = tmp_path / "broken"
    write_adapter(broken)
    (broken / "adapter_model.safetensors").write_bytes(content)
    found = check(broken, base)
    assert isinstance(found, Misfit)
    assert "no safetensors file" in found.message
    (base / "model-00001-of-00001.safetensors").write_bytes(content)
    write_adapter(broken, hidden=20)
    assert check(broken, base) is None, "of a base that cannot be read nothing is known"


def test_pickled_weights_and_an_odd_configuration(tmp_path: Path, base: Path) -> None:
    pickled = tmp_path / "pickled"
    write_adapter(pickled)
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    assert check(pickled, base) is None
    (pickled / "adapter_config.json").write_text("{}")
    assert isinstance(check(pickled, base), Misfit)


class Bench:
    """A keeper with a Hub and a clock of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 1000.0
        self.asked: list[str] = []
        self.outcome: FetchOutcome | Exception | None = None
        self.found: Misfit | None = None
        self.keeper = Keeper(root, self._fetch, lambda directory: self.found, lambda: self.now)

    def _fetch(self, repository: str, sha: str, directory: Path) -> FetchOutcome:
        self.asked.append(sha)
        directory.mkdir(exist_ok=True)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome or Downloaded(sha=sha, files=2, bytes=10)

    def sync(self, *shas: str, keep: tuple[str, ...] | None = ()) -> dict[str, str]:
        items = tuple(WantedAdapter(repository="acme/french", sha=sha) for sha in shas)
        wanted = WantedAdapters(adapters=items, keep=keep)
        return {item.sha: item.phase for item in self.keeper.sync(wanted).adapters}

    def work(self) -> None:
        while self.keeper.step():
            pass

    def held(self) -> set[str]:
        return {path.name for path in self.root.iterdir()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    root = tmp_path / "adapters"
    root.mkdir()
    return Bench(root)


def test_what_is_wanted_is_fetched_once_and_what_is_not_is_deleted(bench: Bench) -> None:
    assert bench.sync(SHA, OTHER) == {SHA: "Fetching", OTHER: "Fetching"}
    bench.work()
    assert bench.sync(SHA, OTHER) == {SHA: "Ready", OTHER: "Ready"}
    bench.sync(OTHER, keep=None)
    bench.work()
    assert bench.held() == {SHA, OTHER}, "what the engine reads is not known"
    bench.sync(OTHER, keep=(SHA,))
    bench.work()
    assert bench.held() == {SHA, OTHER}, "the engine still reads it"
    bench.sync(OTHER)
    bench.work()
    assert (bench.held(), bench.asked) == ({OTHER}, [SHA, OTHER])
    assert bench.sync(SHA) == {SHA: "Fetching"}, "what was deleted is fetched anew"


def test_nothing_is_deleted_before_anyone_said_what_is_wanted(bench: Bench) -> None:
    (bench.root / SHA).mkdir()
    bench.work()
    assert bench.held() == {SHA}


def test_a_failure_is_told_and_tried_again_later(bench: Bench) -> None:
    bench.outcome = Failed(reason=FetchReason.ADAPTER_NOT_FOUND, message="There is none.")
    bench.sync(SHA)
    bench.work()
    assert bench.sync(SHA) == {SHA: "Failed"}
    bench.work()
    assert bench.asked == [SHA], "not before its time"
    bench.outcome, bench.now = None, bench.now + RETRY_SECONDS
    bench.work()
    assert bench.sync(SHA) == {SHA: "Ready"}


def test_neither_a_misfit_nor_a_broken_disk_ends_the_container(bench: Bench) -> None:
    bench.found = Misfit(FetchReason.ADAPTER_BASE_MISMATCH, "it was made for another base.")
    bench.sync(SHA)
    bench.work()
    state = bench.keeper.sync(WantedAdapters(adapters=(WantedAdapter(repository="acme/french", sha=SHA),))).adapters[0]
    assert state.reason is FetchReason.ADAPTER_BASE_MISMATCH
    assert state.message == "The adapter in acme/french cannot be served: it was made for another base."
    bench.found, bench.outcome = None, OSError("disk")
    bench.sync(OTHER)
    bench.work()
    assert bench.sync(OTHER) == {OTHER: "Failed"}


@pytest.fixture
def sidecar(hub: RunningHub, tmp_path: Path, base: Path, unused_tcp_port: int) -> Iterator[str]:
    """The container's process, and its address."""
    root = tmp_path / "adapters"
    root.mkdir()
    command = [sys.executable, "-m", "nightshift.fetch", "adapters", "--to", str(root), "--base", str(base)]
    environment = {"PYTHONPATH": str(REPOSITORY / "operator"), "HF_ENDPOINT": hub.url, "HOME": "/nonexistent"}
    process = subprocess.Popen([*command, "--port", str(unused_tcp_port)], env=environment)
    try:
        yield f"http://127.0.0.1:{unused_tcp_port}"
    finally:
        process.terminate()
        assert process.wait(10) == 128 + 15, "it ends when it is told to"


def put(address: str, body: bytes, path: str = "/adapters", length: int | None = None) -> tuple[int, dict[str, Any]]:
    headers = {} if length is None else {"Content-Length": str(length)}
    request = urllib.request.Request(address + path, data=body, headers=headers, method="PUT")
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except OSError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.1)


def test_the_container_fetches_what_it_is_asked_for(
    sidecar: str, fetch: Fetch, adapter: Path, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapter, root / "acme" / "wide")
    write_adapter(root / "acme" / "wide", hidden=20)
    good = resolve(fetch)
    wide = fetch("resolve-adapter", "--uri", "hf://acme/wide").outcome
    assert isinstance(good, AdapterResolved)
    assert isinstance(wide, AdapterResolved)
    wanted = WantedAdapters(
        adapters=(
            WantedAdapter(repository="acme/french", sha=good.sha),
            WantedAdapter(repository="acme/wide", sha=wide.sha),
        )
    )
    body = json.dumps(wanted.to_json()).encode()
    deadline = time.monotonic() + 20
    while True:
        status, answer = put(sidecar, body)
        states = AdapterStates.model_validate(answer).adapters
        if all(state.phase != "Fetching" for state in states):
            break
        assert time.monotonic() < deadline, states
        time.sleep(0.1)
    assert (status, states[0].phase) == (200, "Ready")
    assert states[1].reason is FetchReason.ADAPTER_BASE_MISMATCH
    held = {path.name for path in (tmp_path / "adapters" / good.sha).iterdir() if not path.name.startswith(".")}
    assert held == {"adapter_config.json", "adapter_model.safetensors"}
    assert put(sidecar, b"[]")[0] == 400
    assert put(sidecar, b"{")[0] == 400
    assert put(sidecar, body, "/else")[0] == 400
    assert put(sidecar, body, length=70000)[0] == 400
