"""What earlier commits left on a volume goes when another one is downloaded beside them."""

import fcntl
import shutil
from pathlib import Path

import pytest

from e2e.hub.running import RunningHub
from nightshift.api.fetch import FetchReason
from nightshift.fetch.manifest import complete
from nightshift.fetch.room import GONE_PREFIX, LOCK_NAME, Room
from tests.fetch.conftest import URI, Ended, Fetch

USED, STORED, UNNAMED = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A volume with three models of ours, and things of others."""
    root = tmp_path / "models"
    for name in (USED, STORED, UNNAMED):
        (root / name).mkdir(parents=True)
        (root / name / LOCK_NAME).touch()
        (root / name / "model.safetensors").write_bytes(b"x" * 1000)
    (root / ("d" * 40)).mkdir()
    (root / "lost+found").mkdir()
    (root / "mine.txt").write_text("mine")
    return root


OTHERS = {"d" * 40, "lost+found", "mine.txt"}
"""Not made by a download."""


def present(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - OTHERS


def download(fetch: Fetch, models: Path, *more: str) -> tuple[str, Ended]:
    sha = fetch.resolve().resolved.sha
    return sha, fetch("download", "--uri", URI, "--sha", sha, "--to", str(models / sha), *more)


def test_what_nobody_names_any_more_goes(fetch: Fetch, hub: RunningHub, models: Path) -> None:
    (models / f"{GONE_PREFIX}cut-short").mkdir()
    sha, ended = download(fetch, models, "--in-use", USED, "--kept", f"{USED},{STORED}")
    assert ended.downloaded.sha == sha
    assert present(models) == {sha, USED, STORED}
    assert {path.name for path in models.iterdir()} >= OTHERS


def test_nothing_goes_where_nobody_said_what_is_in_use(fetch: Fetch, hub: RunningHub, models: Path) -> None:
    sha, _ = download(fetch, models)
    assert present(models) == {sha, USED, STORED, UNNAMED}


def test_what_only_stored_revisions_name_goes_where_room_is_short(
    fetch: Fetch, hub: RunningHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(models)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: full._replace(free=0 if (models / STORED).exists() else full.free)
    )
    sha, ended = download(fetch, models, "--in-use", USED, "--kept", f"{USED},{STORED}")
    assert ended.downloaded.sha == sha
    assert present(models) == {sha, USED}


def test_what_replicas_may_read_stays_and_the_remedy_is_told(
    fetch: Fetch, hub: RunningHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(models)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full._replace(free=0))
    sha, ended = download(fetch, models, "--in-use", USED)
    assert ended.failed.reason is FetchReason.MODEL_CACHE_FULL
    assert "raise spec.model.cache.size" in ended.failed.message
    assert "with type Pod use nodes with more disk" in ended.failed.message
    assert present(models) == {sha, USED}
    assert not complete(models / sha, sha)


def test_a_directory_that_another_download_works_on_stays(models: Path) -> None:
    with (models / UNNAMED / LOCK_NAME).open("a") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        Room(frozenset({USED}), frozenset({STORED})).clear(models / USED)
        assert present(models) == {USED, STORED, UNNAMED}
    Room(frozenset({USED}), frozenset({STORED})).clear(models / USED)
    assert present(models) == {USED, STORED}


@pytest.mark.parametrize("commits", ["main", "a" * 39, f"{USED};{STORED}"])
def test_only_commits_can_be_named(fetch: Fetch, hub: RunningHub, models: Path, commits: str) -> None:
    with pytest.raises(SystemExit):
        download(fetch, models, "--in-use", commits)
