import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster import Settings, host, procfs
from e2e.cluster.remains import strays

STAT = "812 (a) (b) S 1 812 800 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 123456 1 2 3"


def test_stat_of_a_command_with_brackets_and_blanks() -> None:
    seen = procfs.parse_stat(STAT)
    assert (seen.pid, seen.command, seen.state, seen.parent, seen.session) == (812, "a) (b", "S", 1, 800)
    assert seen.start_ticks == 123456


def test_a_zombie_is_not_alive() -> None:
    assert not procfs.parse_stat(STAT.replace(" S ", " Z ", 1)).alive


def test_our_own_process_is_read() -> None:
    seen = procfs.read_process(os.getpid())
    assert seen is not None
    assert seen.pid == os.getpid()
    assert seen.session == os.getsid(0)


def test_no_process_is_none() -> None:
    assert procfs.read_process(2**22 + 1) is None


def test_the_first_process_of_a_container_is_the_one_that_began_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "kubepods" / "pod1" / "0123abcd"
    group.mkdir(parents=True)
    monkeypatch.setattr(host, "cgroup_directories", lambda _: [tmp_path])
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        (group / "cgroup.procs").write_text(f"{child.pid}\n{os.getpid()}\n")
        assert host.first_process(Settings(tmp_path), "0123abcd") == os.getpid()
        (group / "cgroup.procs").write_text(f"{child.pid}\n")
        assert host.first_process(Settings(tmp_path), "0123abcd") == child.pid
        child.communicate(b"\n")
    assert host.first_process(Settings(tmp_path), "0123abcd") is None
    assert host.first_process(Settings(tmp_path), "another") is None


def test_mark_is_the_whole_variable() -> None:
    assert procfs.parse_mark(b"A=1\0NIGHTSHIFT_CLUSTER=/a b\0B=2\0") == "/a b"
    assert procfs.parse_mark(b"X_NIGHTSHIFT_CLUSTER=/a\0") is None


MOUNTINFO = """20 1 8:1 / / rw - ext4 /dev/a rw
21 20 0:5 / /home/run/a rw shared:1 - tmpfs tmpfs rw
22 21 0:6 / /home/run/a/b\\040c rw - overlay overlay rw,lowerdir=/x
23 20 0:7 / /home/running rw - tmpfs tmpfs rw
"""


def test_mounts_below_are_innermost_first_and_not_the_neighbour() -> None:
    mounts = procfs.parse_mountinfo(MOUNTINFO)
    assert procfs.mounts_below(mounts, Path("/home/run")) == ["/home/run/a/b c", "/home/run/a"]


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0
   1: 0100FA0A:192B 0100FA0A:8888 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0
"""
TCP6 = """  sl  local_address remote_address st tx rx tr tm->when retrnsmt   uid
   0: 00000000000000000000000000000000:192B 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 333 1
   1: 0000000000000000FFFF00000100FA0A:1388 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 444 1
"""


def test_listeners() -> None:
    assert procfs.parse_listeners(TCP) == [procfs.Listener("127.0.0.1", 8080, 111)]
    wildcard, mapped = procfs.parse_listeners(TCP6)
    assert wildcard.wildcard
    assert wildcard.port == 6443
    assert (mapped.address, mapped.port) == ("10.250.0.1", 5000)


def process(pid: int, session: int, command: str = "x") -> procfs.Process:
    return procfs.Process(pid, 1, session, 1, "S", command, "/home")


def test_strays_are_neither_recorded_nor_helpers_nor_shims() -> None:
    component, helper, stray = process(10, 10), process(11, 10), process(12, 12, "compile")
    shim = process(13, 9, "containerd-shim")
    assert strays([component, helper, stray, shim], frozenset({10})) == [stray]
