"""What the machine is like, gathered once; the decisions on it are in ``checks``."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import builds, procfs, remains
from .settings import BRIDGE, NETWORK, PORTS, Settings
from .tools import CLUSTER_TOOLS

KERNEL_MODULES = ("overlay", "br_netfilter", "veth", "bridge", "nf_conntrack", "nf_nat")


@dataclass(frozen=True)
class Taken:
    """A port of ours that another process holds."""

    port: int
    wanted_by: str
    holder: str


@dataclass(frozen=True)
class Facts:
    """The machine as the checks see it.

    Attributes:
        go: version of the Go on PATH, None without one.
        free_bytes: free space where the cluster's home is or will be.
        home_file_system: type of the file system below the home.
        to_build: names of binaries that are not in the cache.
        missing_kernel: kernel features that are not there, in words.
        routes: destinations of the machine's IPv4 routes that overlap ours and are not ours.
        other_homes: homes of other local clusters whose API server runs.
        foreign_kubelets: pids of kubelets that are not ours.
    """

    system: str
    uid: int
    home: Path
    go: tuple[int, int] | None
    free_bytes: int
    memory_bytes: int
    home_file_system: str
    to_build: tuple[str, ...]
    missing_kernel: tuple[str, ...] = ()
    taken: tuple[Taken, ...] = ()
    routes: tuple[str, ...] = ()
    other_homes: tuple[str, ...] = ()
    foreign_kubelets: tuple[int, ...] = ()


def gather(settings: Settings) -> Facts:
    """Look at the machine. Loads kernel modules where they are modules; changes nothing else."""
    existing = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    linux = platform.system() == "Linux"
    seen = list(procfs.processes()) if linux else []
    return Facts(
        system=platform.system(),
        uid=os.getuid(),
        home=settings.home,
        go=go_version(),
        free_bytes=shutil.disk_usage(existing).free,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        home_file_system=file_system(procfs.read_mounts(), existing.resolve()) if linux else "",
        to_build=builds.to_build(settings, CLUSTER_TOOLS),
        missing_kernel=missing_kernel() if linux and os.getuid() == 0 else (),
        taken=tuple(taken_ports(settings)) if linux else (),
        routes=overlapping_routes(Path("/proc/net/route").read_text()) if linux else (),
        other_homes=tuple(sorted(live_homes(seen) - {str(settings.home)})),
        foreign_kubelets=tuple(other.pid for other in seen if other.command == "kubelet" and not other.home),
    )


def live_homes(seen: list[procfs.Process]) -> set[str]:
    """Homes whose API server runs, or where a command is at work right now."""
    homes = {process.home for process in seen if process.home}
    serving = {process.home for process in seen if process.home and process.command == "kube-apiserver"}
    return serving | {home for home in homes if remains.is_locked(Settings(Path(home)))}


def parse_go_version(text: str) -> tuple[int, int] | None:
    """``go version go1.26.8 linux/amd64`` -> (1, 26)."""
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def go_version() -> tuple[int, int] | None:
    """The version of the Go on PATH."""
    if not shutil.which("go"):
        return None
    return parse_go_version(subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout)


def file_system(mounts: list[procfs.Mount], path: Path) -> str:
    """The type of the file system that holds ``path``."""
    holding = [mount for mount in mounts if path.is_relative_to(mount.path)]
    return max(enumerate(holding), key=lambda item: (len(item[1].path), item[0]))[1].kind if holding else ""


def missing_kernel() -> tuple[str, ...]:
    """Kernel features the node needs and this kernel lacks."""
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "--all", "--quiet", *KERNEL_MODULES], capture_output=True, check=False)
    missing = []
    if "\toverlay" not in Path("/proc/filesystems").read_text():
        missing.append("overlayfs")
    if not Path("/proc/sys/net/bridge").exists():
        missing.append("bridge netfilter (br_netfilter)")
    controllers = cgroup_controllers()
    missing += [f"cgroup controller {name}" for name in ("cpu", "memory", "pids") if name not in controllers]
    return tuple(missing)


def cgroup_controllers() -> set[str]:
    """Names of the control group controllers that are mounted."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        return set(unified.read_text().split())
    root = Path("/sys/fs/cgroup")
    return {name for path in root.iterdir() for name in path.name.split(",")} if root.exists() else set()


def conflicts(listeners: list[procfs.Listener]) -> list[tuple[procfs.Listener, str]]:
    """Listening sockets on an address and port that one of our processes wants, with that process."""
    return [
        (listener, component)
        for (address, port), component in PORTS.items()
        for listener in listeners
        if listener.port == port and (listener.wildcard or listener.address == address)
    ]


def taken_ports(settings: Settings) -> list[Taken]:
    """Our ports that a process outside this cluster holds."""
    taken = []
    for listener, component in conflicts(procfs.read_listeners()):
        owner = procfs.socket_owner(listener.inode)
        if owner is None or owner.home is None:
            holder = f"{owner.command} (pid {owner.pid})" if owner else "an unknown process"
            taken.append(Taken(listener.port, component, holder))
    return taken


def overlapping_routes(text: str) -> tuple[str, ...]:
    """Routes in ``/proc/net/route`` into our network over a link that is not our bridge."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        link, destination, mask = fields[0], int(fields[1], 16), int(fields[7], 16)
        octets = destination.to_bytes(4, "little")
        bits = mask.bit_count()
        if link != BRIDGE and bits > 0 and _overlaps(octets, bits):
            found.append(f"{'.'.join(map(str, octets))}/{bits} dev {link}")
    return tuple(found)


def _overlaps(octets: bytes, bits: int) -> bool:
    """Whether a network lies in ours; a wider one around it does not hurt, the closer route wins."""
    network, own_bits = NETWORK.split("/")
    own = bytes(int(octet) for octet in network.split("."))
    return bits >= int(own_bits) and octets[:2] == own[:2]
