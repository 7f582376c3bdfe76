"""What the cluster changes on the host outside its own directory, with the way back."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from . import firewall, procfs
from .processes import run, write_atomically
from .settings import BRIDGE, BRIDGE_MAC, CNI_NETWORK, NODE_ADDRESS, POD_SUBNET, Settings

SYSCTLS = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""Kernel settings that we or the kubelet change."""

TRACES = ("/var/lib/kubelet", "/var/lib/cni", "/run/containerd", "/var/log/containers", "/var/log/pods")
"""Directories that node programs create at fixed places; removed by ``down`` if they were not there before."""

CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = frozenset({"cpu", "cpuset", "io", "memory", "pids"})


def _state_path(settings: Settings) -> Path:
    return settings.run / "host.json"


def remember(settings: Settings) -> None:
    """Write down how the host was, once in the life of a cluster: a resumed ``up`` sees its own changes."""
    path = _state_path(settings)
    if path.exists():
        return
    sysctls = {name: _sysctl(name).read_text().strip() for name in SYSCTLS if _sysctl(name).exists()}
    created = [trace for trace in TRACES if not Path(trace).exists()]
    write_atomically(path, json.dumps({"sysctls": sysctls, "created": created}, indent=2))


def restore(settings: Settings) -> None:
    """Put back what :func:`remember` wrote down."""
    try:
        state = json.loads(_state_path(settings).read_text())
    except (FileNotFoundError, ValueError):
        return
    for name, value in state["sysctls"].items():
        if name in SYSCTLS and _sysctl(name).read_text().strip() != value:
            _sysctl(name).write_text(value)
    for trace in state["created"]:
        if trace in TRACES:
            shutil.rmtree(trace, ignore_errors=True)
    for result in Path("/var/lib/cni/results").glob(f"{CNI_NETWORK}-*"):
        result.unlink(missing_ok=True)
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(settings.run):
            link.unlink(missing_ok=True)


def _sysctl(name: str) -> Path:
    return procfs.PROC / "sys" / name


def raise_network() -> None:
    """The bridge that carries the node's address and the pods, forwarding, and our filter rules."""
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        run(["ip", "link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge"])
    # A pod that reaches a pod of the same bridge through a Service is answered past the host's
    # address translation unless bridged packets pass the filter too. Set for our bridge alone.
    run(["ip", "link", "set", BRIDGE, "type", "bridge", "nf_call_iptables", "1"])
    prefix = POD_SUBNET.split("/")[1]
    run(["ip", "address", "replace", f"{NODE_ADDRESS}/{prefix}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    _sysctl("net/ipv4/ip_forward").write_text("1")
    firewall.add_rules()


def links() -> list[str]:
    """The bridge and the pods' ends that hang on it."""
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        return []
    ports = Path(f"/sys/class/net/{BRIDGE}/brif")
    return [*(port.name for port in ports.iterdir()), BRIDGE]


def remove_links() -> None:
    """Remove the bridge and what hangs on it."""
    for name in links():
        run(["ip", "link", "delete", name], check=False)


def hierarchies(mounts: Iterable[procfs.Mount]) -> list[Path]:
    """The control group hierarchies pods are put in: each of version 1, and the one of version 2."""
    return [
        Path(mount.path)
        for mount in mounts
        if mount.kind in {"cgroup", "cgroup2"} and Path(mount.path).is_relative_to(CGROUPS)
    ]


def cgroup_directories(settings: Settings) -> list[Path]:
    """Our control group in each hierarchy, there or not."""
    return [hierarchy / settings.cgroup for hierarchy in hierarchies(procfs.read_mounts())]


def make_cgroups(settings: Settings) -> None:
    """The kubelet demands that the group it is given as root exists."""
    for directory in cgroup_directories(settings):
        available = directory.parent / "cgroup.controllers"
        if available.exists():
            wanted = [f"+{name}" for name in available.read_text().split() if name in CONTROLLERS]
            (directory.parent / "cgroup.subtree_control").write_text(" ".join(wanted))
        directory.mkdir(exist_ok=True)


def cgroup_pids(settings: Settings) -> set[int]:
    """Every process below our control group: the pods, also those whose shim is gone."""
    found: set[int] = set()
    for directory in cgroup_directories(settings):
        for listing in directory.rglob("cgroup.procs"):
            try:
                found |= {int(pid) for pid in listing.read_text().split()}
            except OSError:
                continue
    return found - {0}


def first_process(settings: Settings, container: str) -> int | None:
    """The process that a container began with, None when it has none (any more).

    Args:
        settings: The cluster.
        container: The container's id, without ``containerd://``.
    """
    pids: set[int] = set()
    for directory in cgroup_directories(settings):
        for group in directory.rglob(container):
            pids |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    seen = [process for pid in pids if (process := procfs.read_process(pid)) is not None and process.alive]
    return next((process.pid for process in seen if process.parent not in pids), None)


def remove_cgroups(settings: Settings) -> None:
    """Remove our control groups, which must hold no process any more."""
    for directory in cgroup_directories(settings):
        if directory.exists():
            for group in sorted(_groups(directory), key=lambda path: len(path.parts), reverse=True):
                try:
                    group.rmdir()
                except FileNotFoundError:
                    continue


def _groups(directory: Path) -> list[Path]:
    return [directory, *(path for path in directory.rglob("*") if path.is_dir())]
