from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster.checks import CLUSTER, DISK_TO_BUILD, DISK_TO_RUN, GIB, Needs, refusals
from e2e.cluster.facts import (
    Facts,
    Taken,
    conflicts,
    file_system,
    overlapping_routes,
    parse_go_version,
)
from e2e.cluster.procfs import Listener, Mount

GOOD = Facts(
    system="Linux",
    uid=0,
    home=Path("/var/lib/nightshift"),
    go=(1, 26),
    free_bytes=DISK_TO_BUILD,
    memory_bytes=CLUSTER.memory_bytes,
    home_file_system="ext4",
    to_build=("etcd",),
)


def test_a_good_machine_is_accepted() -> None:
    assert refusals(GOOD, (1, 26)) == []


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        ({"system": "Darwin"}, "needs Linux, this is Darwin", "KUBECONFIG"),
        ({"uid": 1000}, "as root", "sudo"),
        ({"go": None}, "no Go to build etcd", "install Go 1.26 or later"),
        ({"go": (1, 9)}, "Go 1.9 is too old", "install Go 1.26 or later"),
        ({"free_bytes": DISK_TO_BUILD - GIB}, "has 11.0 GiB free, the cluster needs 12 GiB", "NIGHTSHIFT_HOME"),
        ({"memory_bytes": 2 * GIB}, "has 2.0 GiB of memory, the cluster needs 6 GiB", "larger machine"),
        ({"home": Path("/" + "x" * 60)}, "longer than 60 characters", "shorter path"),
        ({"home_file_system": "overlay"}, "lies on overlay", "ext4"),
        ({"home_file_system": "fuse.sshfs"}, "lies on fuse.sshfs", "ext4"),
        ({"missing_kernel": ("overlayfs",)}, "the kernel lacks overlayfs", "modprobe"),
        (
            {"taken": (Taken(6443, "kube-apiserver", "k3s (pid 7)"),)},
            "port 6443 for kube-apiserver is taken by k3s",
            "stop",
        ),
        (
            {"other_homes": ("/other",)},
            "another home is running: /other",
            "NIGHTSHIFT_HOME=/other python -m e2e.cluster down",
        ),
        ({"foreign_kubelets": (42,)}, "another kubelet runs on this machine (pid 42)", "KUBECONFIG"),
        ({"routes": ("10.250.3.0/24 dev tun0",)}, "10.250.3.0/24 dev tun0", "remove that route"),
    ],
)
def test_each_obstacle_is_refused_with_its_remedy(change: dict[str, object], problem: str, remedy: str) -> None:
    found = refusals(replace(GOOD, **change), (1, 26))  # type: ignore[arg-type]
    assert len(found) == 1
    assert problem in found[0].problem
    assert remedy in found[0].remedy


def test_nothing_to_build_needs_no_go_and_less_disk() -> None:
    assert refusals(replace(GOOD, go=None, to_build=(), free_bytes=DISK_TO_RUN), (1, 26)) == []
    assert len(refusals(replace(GOOD, to_build=(), free_bytes=DISK_TO_RUN - 1), (1, 26))) == 1


def test_what_is_to_run_is_named_with_its_own_need() -> None:
    needs = Needs("make demo", 12 * GIB, disk_bytes=20 * GIB)
    found = refusals(replace(GOOD, memory_bytes=8 * GIB), (1, 26), needs)
    assert [refusal.problem for refusal in found] == [
        "/var/lib/nightshift has 12.0 GiB free, make demo needs 32 GiB",
        "the machine has 8.0 GiB of memory, make demo needs 12 GiB",
    ]


def test_all_obstacles_are_named_at_once() -> None:
    found = refusals(replace(GOOD, go=None, free_bytes=0, memory_bytes=0), (1, 26))
    assert len(found) == 3


def test_a_newer_minor_version_is_not_compared_as_text() -> None:
    assert refusals(replace(GOOD, go=(1, 100)), (1, 26)) == []


@pytest.mark.parametrize(
    ("listener", "in_the_way"),
    [
        (Listener("0.0.0.0", 6443, 1), True),
        (Listener("::", 6443, 1), True),
        (Listener("10.250.0.1", 6443, 1), True),
        (Listener("127.0.0.1", 6443, 1), False),
        (Listener("127.0.0.1", 10248, 1), True),
        (Listener("0.0.0.0", 6444, 1), False),
    ],
)
def test_a_port_is_taken_only_on_our_address(listener: Listener, in_the_way: bool) -> None:
    assert bool(conflicts([listener])) is in_the_way


ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
nightshift0\t0000FA0A\t00000000\t0001\t0\t0\t0\t00C0FFFF\t0\t0\t0
tun1\t0003FA0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_only_a_closer_route_of_another_link_overlaps() -> None:
    assert overlapping_routes(ROUTES) == ("10.250.3.0/24 dev tun1",)


def test_go_version() -> None:
    assert parse_go_version("go version go1.26.8 linux/amd64") == (1, 26)
    assert parse_go_version("go version devel") is None


def test_the_innermost_and_newest_mount_holds_a_path() -> None:
    mounts = [Mount("/", "overlay"), Mount("/var/lib", "ext4"), Mount("/var", "xfs"), Mount("/var/lib", "btrfs")]
    assert file_system(mounts, Path("/var/lib/nightshift")) == "btrfs"
    assert file_system(mounts, Path("/home")) == "overlay"
