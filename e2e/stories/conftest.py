"""Fixtures of the stories, the record of what is already green, and the dump on failure."""

import functools
import hashlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Settings, current, kubectl
from e2e.cluster.objects import recycle
from e2e.setup import install_everything
from e2e.stories.judging import Judge
from e2e.stories.world import World
from e2e.support.client import Client
from e2e.support.install import remove_stories
from e2e.support.lane import ROOT
from e2e.support.rights import Right

GREEN = "stories"
WORLD = pytest.StashKey[World]()
STARTED = pytest.StashKey[float]()
TOLD = pytest.StashKey[bool]()
USED = pytest.StashKey[set[Right]]()


def tree_state() -> str:
    """The commit, and a hash of what differs from it: a green story counts for exactly this."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", *arguments], cwd=ROOT, capture_output=True, check=True
        ).stdout

    untracked = git("ls-files", "--others", "--exclude-standard", "-z").decode().split("\0")
    contents = b"".join(name.encode() + (ROOT / name).read_bytes() for name in untracked if (ROOT / name).is_file())
    changed = hashlib.sha256(git("diff", "HEAD") + contents).hexdigest()
    return f"{git('rev-parse', 'HEAD').decode().strip()[:12]}-{changed[:8]}"


def cluster_identity() -> str:
    """The cluster by the uid of its namespace kube-system, which lives as long as the cluster does."""
    return kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}").strip()


@functools.cache
def records() -> Path:
    """Where the records of stories lie that are green on this tree and on this cluster: another one proves nothing.

    Read once: an edit while stories run does not make their records those of the edited tree.
    """
    return Settings.from_environment().home / GREEN / cluster_identity() / tree_state()


def _record(item: pytest.Item) -> Path:
    name = re.sub(r"[^A-Za-z0-9]+", "-", item.nodeid.rpartition("/")[2]).strip("-")
    return records() / f"{name}.json"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks."""
    config.addinivalue_line("markers", "engine(name): the engine that the story runs on")
    config.addinivalue_line("markers", "long: a story of many minutes, which `make e2e` tells and `make test` does not")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Stories that are green on this very tree need not run again."""
    parser.addoption("--resume", action="store_true", help="pass over stories that are green on this tree")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Pass over what is green already."""
    if not config.getoption("--resume"):
        return
    green = [item for item in items if _record(item).exists()]
    items[:] = [item for item in items if item not in green]
    for item in green:
        print(f"green on this tree already: {item.nodeid}")
    if green:
        config.hook.pytest_deselected(items=green)


@pytest.fixture(scope="session")
def client() -> Client:
    """The cluster, with Nightshift installed by its chart."""
    found = Client(current())
    remove_stories(found)
    install_everything(found)
    return found


@pytest.fixture(scope="session")
def judge(client: Client) -> Iterator[Judge]:
    """Looks beside the stories at the operators' logs and at the audit log."""
    found = Judge(client, client.access.home / GREEN / "operator-logs")
    found.start()
    yield found
    found.close()


@pytest.fixture
def world(client: Client, judge: Judge, request: pytest.FixtureRequest) -> Iterator[World]:
    """A namespace of the story's own, of the restricted standard, and the volumes that earlier stories left."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    story = World(client, f"story-{name}-{int(time.time()) % 100000}", judge.audit)
    request.node.stash[WORLD] = story
    request.node.stash[STARTED] = time.monotonic()
    if client.access.local:
        recycle(Settings.from_environment())
    judge.begin()
    story.open()
    yield story
    story.close()
    request.node.stash[USED] = judge.end(story.expected_errors)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Dump on failure, remember on success: a story is green when it was told to its end and judged."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    story = item.stash.get(WORLD, None)
    if report.when == "call" and report.failed and story is not None:
        report.sections.append(("what the cluster did", story.dump()))
    if report.when == "call":
        item.stash[TOLD] = report.passed
    if report.when == "teardown" and report.passed and item.stash.get(TOLD, False):
        _remember(item)
    return report  # type: ignore[return-value]


def _remember(item: pytest.Item) -> None:
    mark = item.get_closest_marker("engine")
    seconds = round(time.monotonic() - item.stash.get(STARTED, time.monotonic()), 1)
    rights: set[Right] = item.stash.get(USED, set())
    written = {
        "story": item.nodeid,
        "engine": mark.args[0] if mark else "none",
        "seconds": seconds,
        "rights": sorted(rights),
    }
    record = _record(item)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(written))
