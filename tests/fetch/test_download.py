import errno
import fcntl
import json
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.hub.running import RunningHub
from nightshift.adapters.hub import Hub
from nightshift.api.fetch import FetchReason
from nightshift.fetch.download import download
from nightshift.fetch.manifest import MANIFEST_NAME, complete, read_manifest
from nightshift.fetch.room import LOCK_NAME, PARTIAL_NAME
from nightshift.fetch.supervise import Meter
from tests.fetch.conftest import WEIGHTS, Fetch

FILES = {"config.json", "tokenizer.json", "model.safetensors"}


def present(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".nightshift-")
    }


@pytest.fixture
def sha(fetch: Fetch, hub: RunningHub) -> str:
    return fetch.resolve().resolved.sha


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny"


def test_a_commit_is_brought_and_noted(fetch: Fetch, sha: str, target: Path) -> None:
    ended = fetch.download(sha, target)
    assert ended.downloaded.sha == sha
    assert ended.downloaded.files == 3
    assert present(target) == FILES
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert not any(path.is_symlink() for path in target.rglob("*"))
    # Another user's engine reads them.
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 for path in target.rglob("*"))
    assert not (target / PARTIAL_NAME).exists()
    manifest = read_manifest(target)
    assert manifest is not None
    assert (manifest.commit, manifest.repository) == (sha, "acme/tiny")
    assert {file.path for file in manifest.files} == FILES
    last = ended.progress[-1]
    assert (last.bytes_done, last.files_done) == (last.bytes_total, last.files_total)


def test_a_complete_directory_needs_no_hub(
    fetch: Fetch, sha: str, target: Path, hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch.download(sha, target).downloaded
    before = len(hub.asked())
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch.download(sha, target).downloaded == first
    assert len(hub.asked()) == before


def test_a_file_cut_short_on_the_disk_is_brought_again(fetch: Fetch, sha: str, target: Path, hub: RunningHub) -> None:
    fetch.download(sha, target)
    (target / "model.safetensors").write_bytes(WEIGHTS[:-1])
    before = len(hub.asked("resolve"))
    fetch.download(sha, target).downloaded  # noqa: B018
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert [asked.path.rpartition("/")[2] for asked in hub.asked("resolve")[before:]] == ["model.safetensors"]


def test_a_damaged_file_without_a_manifest_is_noticed(fetch: Fetch, sha: str, target: Path) -> None:
    fetch.download(sha, target)
    (target / MANIFEST_NAME).unlink()
    (target / "model.safetensors").write_bytes(b"x" * len(WEIGHTS))
    fetch.download(sha, target).downloaded  # noqa: B018
    assert (target / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("manifest", ["", "{", "null", '{"commit": "main"}', '{"files": []}'])
def test_a_manifest_that_is_none_does_not_count(fetch: Fetch, sha: str, target: Path, manifest: str) -> None:
    target.mkdir(parents=True)
    (target / MANIFEST_NAME).write_text(manifest)
    assert fetch.download(sha, target).downloaded.files == 3
    assert present(target) == FILES


def test_another_commit_takes_the_place_and_leaves_nothing_behind(
    fetch: Fetch, sha: str, target: Path, root: Path, hub: RunningHub
) -> None:
    other = root / "acme" / "tiny@v2"
    shutil.copytree(root / "acme" / "tiny", other)
    (other / "tokenizer.json").rename(other / "vocab.json")
    (other / "config.json").write_text(json.dumps({"model_type": "tinY"}))
    fetch.download(sha, target)
    (target / "of-the-user.txt").write_text("mine")
    second = fetch.resolve("v2").resolved.sha
    before = len(hub.asked("model.safetensors"))
    fetch.download(second, target).downloaded  # noqa: B018
    assert present(target) == {"config.json", "vocab.json", "model.safetensors", "of-the-user.txt"}
    assert "tinY" in (target / "config.json").read_text()
    assert complete(target, second)
    assert not complete(target, sha)
    assert len(hub.asked("model.safetensors")) == before, "equal content is not brought again"


def test_a_cut_connection_goes_on_where_it_ended(fetch: Fetch, sha: str, target: Path, hub: RunningHub) -> None:
    hub.faults({"match": "/_cdn/*", "cut_after_bytes": 200_000, "times": 1})
    assert fetch.download(sha, target).downloaded.files == 3
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    sent = [asked.sent_bytes for asked in hub.asked("/_cdn/")]
    assert len(sent) == 2
    assert sum(sent) < len(WEIGHTS) + 200_000


def test_a_hub_in_trouble_is_asked_again(fetch: Fetch, sha: str, target: Path, hub: RunningHub) -> None:
    hub.faults({"match": "*/resolve/*", "status": 503, "times": 2})
    assert fetch.download(sha, target).downloaded.files == 3


def test_damage_on_the_way_is_repaired_once(fetch: Fetch, sha: str, target: Path, hub: RunningHub) -> None:
    hub.faults({"match": "/_cdn/*", "damage": True, "times": 1})
    ended = fetch.download(sha, target)
    assert ended.downloaded.files == 3
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert ended.progress[-1].bytes_done == ended.progress[-1].bytes_total


@pytest.mark.parametrize("match", ["/_cdn/*", "*/config.json"], ids=["large", "small"])
def test_damage_at_the_source_is_told(fetch: Fetch, sha: str, target: Path, hub: RunningHub, match: str) -> None:
    hub.faults({"match": match, "damage": True})
    failed = fetch.download(sha, target).failed
    assert failed.reason is FetchReason.MODEL_CORRUPT
    assert "another content than the Hub lists" in failed.message
    assert not complete(target, sha)


def test_a_slow_download_is_not_a_standing_one(fetch: Fetch, sha: str, target: Path, hub: RunningHub) -> None:
    hub.faults({"match": "/_cdn/*", "bytes_per_second": len(WEIGHTS) // 4})
    ended = fetch.download(sha, target, stall_seconds=3)
    assert ended.downloaded.files == 3
    done = [progress.bytes_done for progress in ended.progress]
    assert done == sorted(done)
    assert len(done) >= 3, "progress is told while bytes move"


def test_access_taken_away_is_told(fetch: Fetch, sha: str, target: Path, root: Path) -> None:
    (root / "acme" / "tiny" / ".gated").write_text("hf_good")
    assert fetch.download(sha, target).failed.reason is FetchReason.MODEL_ACCESS_DENIED
    assert fetch.download(sha, target, token="hf_good").downloaded.files == 3


def test_too_little_space_is_told_before_anything_is_brought(
    fetch: Fetch, sha: str, target: Path, hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(target.parent.parent)._replace(free=len(WEIGHTS))
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    failed = fetch.download(sha, target).failed
    assert failed.reason is FetchReason.MODEL_CACHE_FULL
    assert hub.asked("/_cdn/") == []


def test_a_volume_that_cannot_be_written_is_told(fetch: Fetch, sha: str, target: Path) -> None:
    target.parent.mkdir()
    target.write_text("a file where the directory should be")
    failed = fetch.download(sha, target).failed
    assert failed.reason is FetchReason.MODEL_CACHE_UNUSABLE
    assert "fsGroup" in failed.message


def test_a_link_in_the_cache_leads_nowhere(fetch: Fetch, sha: str, target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    target.mkdir(parents=True)
    (target / "config.json").symlink_to(outside)
    assert fetch.download(sha, target).failed.reason is FetchReason.MODEL_CORRUPT
    assert outside.read_text() == "untouched"


def test_a_second_download_waits_for_the_first(fetch: Fetch, sha: str, target: Path, hub: RunningHub) -> None:
    target.mkdir(parents=True)
    holder = os.open(target / LOCK_NAME, os.O_CREAT | os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    before = len(hub.asked())
    release = threading.Timer(0.7, os.close, [holder])
    release.start()
    try:
        assert fetch.download(sha, target).downloaded.files == 3
    finally:
        release.join()
    assert len(hub.asked()) > before


def test_a_wait_that_leads_nowhere_ends(fetch: Fetch, sha: str, target: Path, hub: RunningHub) -> None:
    target.mkdir(parents=True)
    before = len(hub.asked())
    with (target / LOCK_NAME).open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        failed = fetch.download(sha, target, stall_seconds=0.6).failed
    assert failed.reason is FetchReason.MODEL_DOWNLOAD_STALLED
    assert "Another download holds" in failed.message
    assert len(hub.asked()) == before


def test_where_locks_do_nothing_two_downloads_do_not_harm_each_other(
    sha: str, target: Path, hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    both_ready = threading.Barrier(2)

    class Together(Meter):
        waited = False

        def expect(self, files: int, size: int) -> None:
            super().expect(files, size)
            if not self.waited:
                self.waited = True
                both_ready.wait(timeout=10)

    hub.faults({"match": "/_cdn/*", "bytes_per_second": 2 * len(WEIGHTS)})
    client = Hub(hub.url)
    with ThreadPoolExecutor(2) as both:
        runs = [both.submit(download, client, "acme/tiny", sha, target, Together()) for _ in range(2)]
        assert [run.result(timeout=10).files for run in runs] == [3, 3]
    assert not (target / PARTIAL_NAME).exists()
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert complete(target, sha)


def test_what_another_download_clears_up_is_looked_at_again(sha: str, target: Path, hub: RunningHub) -> None:
    class Interrupted(Meter):
        def expect(self, files: int, size: int) -> None:
            super().expect(files, size)
            times.append(1)
            if len(times) == 1:
                shutil.rmtree(target / PARTIAL_NAME)

    times: list[int] = []
    assert download(Hub(hub.url), "acme/tiny", sha, target, Interrupted()).files == 3
    assert len(times) == 2
    assert complete(target, sha)
