"""What /proc says about processes, mounts and listening sockets; parsing is apart from reading."""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .settings import MARK

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One process as it was seen.

    Attributes:
        start_ticks: start time in clock ticks since boot; with the pid it names one process for good.
        home: the cluster that started it (our mark in its environment), None when it is not ours.
    """

    pid: int
    parent: int
    session: int
    start_ticks: int
    state: str
    command: str
    home: str | None = None

    @property
    def alive(self) -> bool:
        """False for what only waits to be reaped."""
        return self.state not in "ZX"


def parse_stat(text: str) -> Process:
    """Parse ``/proc/PID/stat``; the command may hold spaces and brackets."""
    pid, rest = text.split(" (", 1)
    command, rest = rest.rsplit(") ", 1)
    fields = rest.split()
    return Process(
        pid=int(pid),
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
        state=fields[0],
        command=command,
    )


def parse_mark(environment: bytes) -> str | None:
    """The cluster home in a ``/proc/PID/environ``."""
    prefix = f"{MARK}=".encode()
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix):
            return os.fsdecode(entry[len(prefix) :])
    return None


def read_process(pid: int) -> Process | None:
    """One process, or None when there is none."""
    try:
        seen = parse_stat((PROC / str(pid) / "stat").read_text(errors="replace"))
        home = parse_mark((PROC / str(pid) / "environ").read_bytes()) if seen.alive else None
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return Process(**{**seen.__dict__, "home": home})


def _network(pid: int | str) -> str:
    """The network namespace of a process; empty where that cannot be read."""
    try:
        return str((PROC / str(pid) / "ns" / "net").readlink())
    except OSError:
        return ""


def processes(*, own_network: bool = False) -> Iterator[Process]:
    """Every living process.

    Args:
        own_network: Only those of our network namespace: a node in a container has packet filter rules of its own.
    """
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            seen = read_process(int(entry.name))
            if seen is not None and seen.alive and (not own_network or _network(seen.pid) == _network("self")):
                yield seen


def boot_id() -> str:
    """Changes with every boot of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    path: str
    kind: str


def parse_mountinfo(text: str) -> list[Mount]:
    """Parse ``/proc/self/mountinfo`` (proc(5)); blanks in paths are written as octal escapes."""
    mounts = []
    for line in text.splitlines():
        left, right = line.split(" - ", 1)
        path = left.split()[4].encode().decode("unicode_escape")
        mounts.append(Mount(path, right.split()[0]))
    return mounts


def mounts_below(mounts: list[Mount], directory: Path) -> list[str]:
    """Mount points at or below ``directory``, innermost and newest first."""
    inside = [mount.path for mount in mounts if Path(mount.path).is_relative_to(directory)]
    order = sorted(enumerate(inside), key=lambda item: (item[1].count("/"), item[0]), reverse=True)
    return [path for _, path in order]


def read_mounts() -> list[Mount]:
    """The mounts that this process sees."""
    return parse_mountinfo((PROC / "self/mountinfo").read_text())


@dataclass(frozen=True)
class Listener:
    """One listening TCP socket."""

    address: str
    port: int
    inode: int

    @property
    def wildcard(self) -> bool:
        """Listens on every address."""
        return self.address in {"0.0.0.0", "::"}


def parse_listeners(text: str) -> list[Listener]:
    """Parse ``/proc/net/tcp`` or ``tcp6``: words of the address are in the machine's byte order."""
    listeners = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if fields[3] != "0A":
            continue
        address, port = fields[1].split(":")
        words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
        packed = struct.pack(f"={len(words)}I", *words)
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        name = socket.inet_ntop(family, packed).removeprefix("::ffff:")
        listeners.append(Listener(name, int(port, 16), int(fields[9])))
    return listeners


def read_listeners() -> list[Listener]:
    """Every listening TCP socket of this network namespace."""
    found = []
    for name in ("tcp", "tcp6"):
        path = PROC / "net" / name
        if path.exists():
            found += parse_listeners(path.read_text())
    return found


def socket_owner(inode: int) -> Process | None:
    """The process that holds a socket, or None when it cannot be told."""
    wanted = f"socket:[{inode}]"
    for seen in processes():
        try:
            links = list((PROC / str(seen.pid) / "fd").iterdir())
        except (FileNotFoundError, PermissionError):
            continue
        for link in links:
            try:
                if str(link.readlink()) == wanted:
                    return seen
            except FileNotFoundError:
                continue
    return None
