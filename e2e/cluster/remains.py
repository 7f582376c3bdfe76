"""What a cluster leaves on a machine outside its files: finding it and taking it away."""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from . import firewall, host, procfs
from .processes import end, is_running, records, run
from .settings import ClusterError, Settings

SHIM = "containerd-shim"
NODE_COMMANDS = frozenset({"kubelet", "kube-proxy"})
"""Who needs the packet filter's KUBE- chains, and in a home of ours the bridge."""


@dataclass(frozen=True)
class Remains:
    """What is there, in words."""

    processes: tuple[str, ...]
    mounts: tuple[str, ...]
    links: tuple[str, ...]
    rules: tuple[str, ...]
    cgroups: tuple[str, ...]

    def lines(self) -> list[str]:
        """One line per thing."""
        return [f"{kind}: {thing}" for kind, things in self.__dict__.items() for thing in things]


def _pod_processes(settings: Settings) -> list[procfs.Process]:
    seen = (procfs.read_process(pid) for pid in host.cgroup_pids(settings))
    return [process for process in seen if process is not None and process.alive]


def marked(home: Path) -> list[procfs.Process]:
    """Processes that carry this home's mark, ourselves excepted."""
    return [seen for seen in procfs.processes() if seen.home == str(home) and seen.pid != os.getpid()]


def cluster_mounts(settings: Settings) -> list[str]:
    """Mounts of containers and volumes. Other parts of the home may be mounted by image builds."""
    mounts = procfs.read_mounts()
    return [path for part in (settings.run, settings.containerd) for path in procfs.mounts_below(mounts, part)]


def find(settings: Settings) -> Remains:
    """Look for everything; network links and rules are the same for every home.

    What a foreign node may have made under the same names is not counted as left over.
    """
    marks = [seen for seen in procfs.processes() if seen.home and seen.pid != os.getpid()]
    seen = {process.pid: process for process in [*marks, *_pod_processes(settings)]}
    return Remains(
        processes=tuple(f"{process.command} (pid {process.pid})" for process in seen.values()),
        mounts=tuple(cluster_mounts(settings)),
        links=tuple(host.links()),
        rules=tuple(
            firewall.find(kubernetes=not neighbours(settings.home, procfs.processes(own_network=True)).foreign)
        ),
        cgroups=tuple(str(path) for path in host.cgroup_directories(settings) if path.exists()),
    )


def strays(seen: list[procfs.Process], sessions: frozenset[int]) -> list[procfs.Process]:
    """Which of a home's marked processes belong to nothing that is recorded.

    A component's helpers share its session. A shim keeps a pod alive while containerd is away and stays.
    """
    return [process for process in seen if process.session not in sessions and not process.command.startswith(SHIM)]


def clear_strays(settings: Settings) -> int:
    """End what an interrupted command left behind: builds, and processes that were not recorded yet."""
    sessions = frozenset(record.pid for record in records(settings) if is_running(record))
    # What a helper started from inside this very command carries no mark, so all of these are old.
    left = strays(marked(settings.home), sessions)
    end(left, 0)
    return len(left)


def other_homes(settings: Settings) -> list[Settings]:
    """Homes of other clusters that still have processes here."""
    homes = {seen.home for seen in procfs.processes() if seen.home and seen.home != str(settings.home)}
    return [Settings(Path(home)) for home in sorted(homes)]


@dataclass(frozen=True)
class Neighbours:
    """Nodes that live on this machine beside a home."""

    ours: bool
    """A cluster of another home: bridge and rules, which are the same for every home, are in use."""
    foreign: bool
    """A node that none of our homes started: its chains bear the names of ours."""


def neighbours(home: Path, seen: Iterable[procfs.Process]) -> Neighbours:
    """Which nodes live beside a home, from the processes that share the machine's network."""
    homes = {process.home for process in seen if process.alive and process.command in NODE_COMMANDS}
    return Neighbours(ours=bool(homes - {str(home), None}), foreign=None in homes)


def clear(settings: Settings) -> None:
    """End every process of a home and take away its mounts, links, rules and control groups; files stay.

    Links and rules that a node beside it needs stay too: they go with the last one.
    """
    everything = {seen.pid: seen for seen in [*marked(settings.home), *_pod_processes(settings)]}
    end(everything.values(), 0)
    for path in cluster_mounts(settings):
        run(["umount", "--lazy", path], check=False)
    beside = neighbours(settings.home, procfs.processes(own_network=True))
    if not beside.ours:
        host.remove_links()
        firewall.remove(kubernetes=not beside.foreign)
    host.remove_cgroups(settings)


def is_locked(settings: Settings) -> bool:
    """Whether a command is changing a home's cluster right now."""
    if not settings.lock.exists():
        return False
    with settings.lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _open_lock(settings: Settings) -> TextIO:
    try:
        return settings.lock.open("a+")
    except OSError as error:
        raise ClusterError(
            f"{settings.lock} cannot be opened: {error.strerror}",
            "it belongs to the user who made it: work as that user, or set NIGHTSHIFT_HOME to a directory of yours",
        ) from error


@contextmanager
def exclusive(settings: Settings, wait_seconds: float = 3600.0) -> Iterator[None]:
    """Let one command at a time change the cluster; a crash releases the lock.

    Raises:
        ClusterError: another command held it for ``wait_seconds``, or the home is not ours to write.
    """
    settings.make_home()
    deadline, told = time.monotonic() + wait_seconds, False
    with _open_lock(settings) as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not told:
                    print("another e2e.cluster command is at work, waiting for it", flush=True)
                    told = True
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"another command still holds {settings.lock}", "end it, or wait for it and try again"
                    ) from error
                time.sleep(0.2)
        yield


def end_pods(settings: Settings) -> None:
    """Kill every process that runs in a pod, whether its shim lives or not."""
    end(_pod_processes(settings), 0)
