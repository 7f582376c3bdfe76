from pathlib import Path

import pytest

from e2e.cluster import firewall, host, procfs
from e2e.cluster.procfs import Mount
from e2e.cluster.remains import neighbours

SAVED = """# Generated
*mangle
:PREROUTING ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAA - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.250.0.0/18 ! -d 10.250.0.0/16 -m comment --comment nightshift-cluster -j MASQUERADE
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A KUBE-SERVICES -d 10.250.128.1/32 -j KUBE-SVC-AAA
COMMIT
"""

RESTORE = """*mangle
-F KUBE-KUBELET-CANARY
-X KUBE-KUBELET-CANARY
COMMIT
*nat
-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-D POSTROUTING -s 10.250.0.0/18 ! -d 10.250.0.0/16 -m comment --comment nightshift-cluster -j MASQUERADE
-F KUBE-SERVICES
-F KUBE-SVC-AAA
-X KUBE-SERVICES
-X KUBE-SVC-AAA
COMMIT
"""


def test_our_rules_go_and_docker_stays() -> None:
    assert firewall.removal(SAVED) == RESTORE
    assert "DOCKER" not in firewall.removal(SAVED)


def test_beside_a_foreign_node_only_our_own_rules_go() -> None:
    assert firewall.removal(SAVED, kubernetes=False) == (
        "*nat\n"
        "-D POSTROUTING -s 10.250.0.0/18 ! -d 10.250.0.0/16 -m comment --comment nightshift-cluster -j MASQUERADE\n"
        "COMMIT\n"
    )


HOME = Path("/home/a")


def running(command: str, home: str | None, state: str = "S") -> procfs.Process:
    return procfs.Process(1, 1, 1, 1, state, command, home)


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        pytest.param([running("bash", None), running("go", "/home/b")], (False, False), id="no other node"),
        pytest.param([running("kubelet", "/home/a")], (False, False), id="the home's own node"),
        pytest.param([running("kubelet", "/home/b"), running("kubelet", "/home/a")], (True, False), id="another home"),
        pytest.param([running("kubelet", "/home/b", "Z")], (False, False), id="another home's node that ended"),
        pytest.param([running("kube-proxy", None)], (False, True), id="a node that is not ours"),
    ],
)
def test_what_lives_beside_a_home(processes: list[procfs.Process], expected: tuple[bool, bool]) -> None:
    found = neighbours(HOME, processes)
    assert (found.ours, found.foreign) == expected


def test_nothing_of_ours_is_nothing_to_do() -> None:
    assert firewall.removal("*nat\n:DOCKER - [0:0]\n-A DOCKER -j RETURN\nCOMMIT\n") == ""


def test_control_groups_of_both_versions() -> None:
    mounts = [
        Mount("/sys/fs/cgroup", "tmpfs"),
        Mount("/sys/fs/cgroup/memory", "cgroup"),
        Mount("/sys/fs/cgroup/unified", "cgroup2"),
        Mount("/elsewhere/cgroup", "cgroup2"),
    ]
    assert host.hierarchies(mounts) == [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/unified")]
