import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.cluster import Settings
from e2e.cluster.__main__ import main as cluster_main
from e2e.cluster.reach import find_client
from e2e.demo import main as demo_main
from e2e.images.__main__ import main as images_main
from e2e.model.__main__ import main as model_main
from e2e.run import main as run_main

ROOT = Path(__file__).parents[2]

FAKE_KUBECTL = """#!/bin/sh
test "$1" = version && echo "$HELM" && exit 0
echo "$KUBECONFIG: $@" >> "$CALLS"
test "$ANSWER" = ok && echo ok && exit 0
echo "connection refused" >&2
exit 1
"""


def command(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the package's command with a home of its own, as a user would."""
    for name in ("kubectl", "helm"):
        program = tmp_path / "path" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(FAKE_KUBECTL)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    own = {
        "PATH": f"{tmp_path / 'path'}:{os.environ['PATH']}",
        "NIGHTSHIFT_HOME": str(tmp_path / "home"),
        "CALLS": str(tmp_path / "calls"),
        "HELM": "v4.1.4",
    }
    (tmp_path / "mine").touch()
    inherited = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return subprocess.run(
        [sys.executable, "-m", "e2e.cluster", *arguments],
        cwd=ROOT,
        env=inherited | own | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_with_a_cluster_of_the_users_up_only_asks_it(tmp_path: Path) -> None:
    mine = f"{tmp_path / 'mine'}:{tmp_path / 'further'}"
    done = command(tmp_path, "up", KUBECONFIG=mine, ANSWER="ok")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"{mine}: --request-timeout=10s get --raw=/readyz"]
    assert not (tmp_path / "home").exists()


def test_a_kubeconfig_that_does_not_exist_is_said(tmp_path: Path) -> None:
    done = command(tmp_path, "up", KUBECONFIG="/nowhere", ANSWER="ok")
    assert done.returncode == 1
    assert "KUBECONFIG names /nowhere, and there is no such file" in done.stderr


def test_a_users_cluster_that_does_not_answer_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    done = command(tmp_path, "up", KUBECONFIG=str(tmp_path / "mine"), ANSWER="no")
    assert done.returncode == 1
    assert f"the cluster at {tmp_path / 'mine'} does not answer: connection refused" in done.stderr
    assert "check KUBECONFIG" in done.stderr


@pytest.mark.parametrize("arguments", [["down"], ["purge"], ["gpus", "2"], ["kwok"]])
def test_a_users_cluster_is_not_changed(tmp_path: Path, arguments: list[str]) -> None:
    done = command(tmp_path, *arguments, KUBECONFIG="/mine", ANSWER="ok")
    assert done.returncode == 1
    assert "not ours to change" in done.stderr
    assert not (tmp_path / "calls").exists()


def test_the_shell_lines_point_at_the_local_cluster(tmp_path: Path) -> None:
    done = command(tmp_path, "env")
    assert f"export KUBECONFIG={tmp_path / 'home' / 'run' / 'kubeconfig'}" in done.stdout.splitlines()


def test_without_a_cluster_the_status_fails(tmp_path: Path) -> None:
    done = command(tmp_path, "status")
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith("does not answer")


Without = Callable[..., tuple[int, str]]


@pytest.fixture
def without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Without:
    """Call a command's main as a user who is not root and whose home directory is `tmp_path`."""

    def call(main: Callable[[], int], *arguments: str, **environment: str) -> tuple[int, str]:
        for name in ("KUBECONFIG", "NIGHTSHIFT_HOME", "NIGHTSHIFT_IMAGE_PREFIX", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"HOME": str(tmp_path), **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(os, "getuid", lambda: 1000)
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        return main(), capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        pytest.param(cluster_main, ["up"], id="make cluster-up"),
        pytest.param(cluster_main, ["packages"], id="installing packages"),
        pytest.param(cluster_main, ["purge"], id="purging"),
        pytest.param(images_main, ["build", "operator"], id="building an image"),
        pytest.param(model_main, ["build"], id="training the model"),
        pytest.param(demo_main, [], id="make demo"),
        pytest.param(run_main, ["--suite", "test"], id="the stories of make test"),
    ],
)
def test_a_user_without_rights_is_told_what_to_do_before_anything_is_made(
    without_rights: Without, tmp_path: Path, main: Callable[[], int], arguments: list[str]
) -> None:
    status, said = without_rights(main, *arguments)
    assert status == 1
    assert "must run as root" in said
    assert "repeat the command under sudo, or point KUBECONFIG at a cluster you have" in said
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_made_is_an_error_with_the_remedy(without_rights: Without) -> None:
    status, said = without_rights(cluster_main, "tool", "helm", NIGHTSHIFT_HOME="/proc/nightshift")
    assert status == 1
    assert "the directory /proc/nightshift cannot be made" in said
    assert "set NIGHTSHIFT_HOME to a directory that you may write to" in said


def test_a_lock_of_another_user_is_an_error_with_the_remedy(without_rights: Without, tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    status, said = without_rights(cluster_main, "tool", "helm", NIGHTSHIFT_HOME=str(tmp_path))
    assert status == 1
    assert f"{tmp_path / 'lock'} cannot be opened" in said


@pytest.mark.parametrize("main", [pytest.param(demo_main, id="make demo"), pytest.param(run_main, id="make e2e")])
def test_a_cluster_of_the_users_needs_to_be_told_where_its_images_are(
    without_rights: Without, tmp_path: Path, main: Callable[[], int]
) -> None:
    status, said = without_rights(main, KUBECONFIG="/mine")
    assert status == 1
    assert "nothing says where it pulls images from" in said
    assert "set NIGHTSHIFT_IMAGE_PREFIX" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("helm", "chosen"),
    [
        pytest.param("v4.0.0", "path", id="Helm 4 on PATH is used"),
        pytest.param("v3.19.0", "home/bin", id="Helm 3 does not wait for custom resources: the pinned one is used"),
    ],
)
def test_the_users_own_helm_is_used_if_it_can_do_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helm: str, chosen: str
) -> None:
    for place in ("path", "home/bin"):
        program = tmp_path / place / "helm"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho {helm}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    assert find_client(Settings(tmp_path / "home"), "helm", local=False) == tmp_path / chosen / "helm"
    assert find_client(Settings(tmp_path / "home"), "helm", local=True) == tmp_path / "home/bin/helm"


def test_no_cluster_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from e2e import cluster

    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(cluster.ClusterError, match="no local cluster is up") as caught:
        cluster.current()
    assert "python -m e2e.cluster up" in caught.value.remedy
