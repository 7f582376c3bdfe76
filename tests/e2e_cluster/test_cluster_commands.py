import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FAKE_KUBECTL = """#!/bin/sh
echo "$@" >> "$CALLS"
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
    }
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
    done = command(tmp_path, "up", KUBECONFIG="/mine", ANSWER="ok")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["--kubeconfig=/mine --request-timeout=10s get --raw=/readyz"]
    assert not (tmp_path / "home").exists()


def test_a_users_cluster_that_does_not_answer_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    done = command(tmp_path, "up", KUBECONFIG="/mine", ANSWER="no")
    assert done.returncode == 1
    assert "the cluster at /mine does not answer: connection refused" in done.stderr
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
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith("does not answer")


def test_no_cluster_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from e2e import cluster

    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(cluster.ClusterError, match="no local cluster is up") as caught:
        cluster.current()
    assert "python -m e2e.cluster up" in caught.value.remedy
