"""Whether a cluster can start on a machine; pure decisions over ``Facts``."""

from dataclasses import dataclass

from .facts import Facts
from .settings import NETWORK

GIB = 1024**3
DISK_TO_BUILD = 12 * GIB
DISK_TO_RUN = 3 * GIB
MAX_HOME_LENGTH = 60
LAYERED_FILE_SYSTEMS = ("overlay", "nfs", "nfs4", "fuse", "9p", "virtiofs", "vboxsf", "cifs")


@dataclass(frozen=True)
class Needs:
    """What is to run on the machine, and what that takes.

    Attributes:
        what: its name in a refusal.
        memory_bytes: of the machine in all.
        disk_bytes: free, besides what the cluster itself takes.
    """

    what: str
    memory_bytes: int
    disk_bytes: int = 0


CLUSTER = Needs("the cluster", 6 * GIB)


@dataclass(frozen=True)
class Refusal:
    """Why the cluster cannot start, and what to do about it."""

    problem: str
    remedy: str


def account_refusal(system: str, uid: int) -> Refusal | None:
    """What is asked before anything is read or written: the system, and who asks."""
    if system != "Linux":
        return Refusal(
            f"the local cluster runs real containers and needs Linux, this is {system}",
            "run it in a Linux virtual machine, or point KUBECONFIG at a cluster you have",
        )
    if uid != 0:
        return Refusal(
            "the local cluster starts containers and a network and must run as root",
            "repeat the command under sudo, or point KUBECONFIG at a cluster you have",
        )
    return None


def refusals(facts: Facts, go_needed: tuple[int, int], needs: Needs = CLUSTER) -> list[Refusal]:
    """Everything in the way, most basic first; empty when the cluster can start."""
    account = account_refusal(facts.system, facts.uid)
    if account:
        return [account]
    return [*_build(facts, go_needed), *_room(facts, needs), *_kernel(facts), *_others(facts)]


def _build(facts: Facts, needed: tuple[int, int]) -> list[Refusal]:
    if not facts.to_build:
        return []
    wanted = ".".join(map(str, needed))
    remedy = f"install Go {wanted} or later (https://go.dev/dl) and put it on PATH"
    if facts.go is None:
        return [Refusal(f"there is no Go to build {', '.join(facts.to_build)}", remedy)]
    if facts.go < needed:
        return [Refusal(f"Go {'.'.join(map(str, facts.go))} is too old", remedy)]
    return []


def _room(facts: Facts, needs: Needs) -> list[Refusal]:
    found = []
    needed = needs.disk_bytes + (DISK_TO_BUILD if facts.to_build else DISK_TO_RUN)
    if facts.free_bytes < needed:
        found.append(
            Refusal(
                f"{facts.home} has {facts.free_bytes / GIB:.1f} GiB free, {needs.what} needs {needed / GIB:.0f} GiB",
                "free some space, or set NIGHTSHIFT_HOME to a directory on a larger disk",
            )
        )
    if facts.memory_bytes < needs.memory_bytes:
        has, wants = facts.memory_bytes / GIB, needs.memory_bytes / GIB
        found.append(
            Refusal(
                f"the machine has {has:.1f} GiB of memory, {needs.what} needs {wants:.0f} GiB",
                "use a larger machine, or point KUBECONFIG at a cluster you have",
            )
        )
    if len(str(facts.home)) > MAX_HOME_LENGTH:
        found.append(
            Refusal(
                f"NIGHTSHIFT_HOME is longer than {MAX_HOME_LENGTH} characters: sockets below it could not be opened",
                "set NIGHTSHIFT_HOME to a shorter path",
            )
        )
    if facts.home_file_system.startswith(LAYERED_FILE_SYSTEMS):
        found.append(
            Refusal(
                f"{facts.home} lies on {facts.home_file_system}, on which container images cannot be unpacked",
                "set NIGHTSHIFT_HOME to a directory on ext4, xfs or btrfs (in a container: on a volume)",
            )
        )
    return found


def _kernel(facts: Facts) -> list[Refusal]:
    if not facts.missing_kernel:
        return []
    remedy = "load the modules (`modprobe overlay br_netfilter`), mount the control groups, or use a standard kernel"
    return [Refusal(f"the kernel lacks {', '.join(facts.missing_kernel)}", remedy)]


def _others(facts: Facts) -> list[Refusal]:
    found = [
        Refusal(
            f"a local cluster of another home is running: {home}",
            f"take it down first: NIGHTSHIFT_HOME={home} python -m e2e.cluster down",
        )
        for home in facts.other_homes
    ]
    found += [
        Refusal(f"another kubelet runs on this machine (pid {pid})", "use its cluster by KUBECONFIG, or stop it")
        for pid in facts.foreign_kubelets
    ]
    found += [
        Refusal(f"port {taken.port} for {taken.wanted_by} is taken by {taken.holder}", "stop that process")
        for taken in facts.taken
    ]
    found += [
        Refusal(f"the network {NETWORK} is in use: {route}", "remove that route while the cluster runs")
        for route in facts.routes
    ]
    return found
