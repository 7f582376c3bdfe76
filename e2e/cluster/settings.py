"""Where the local cluster lives and which names, addresses and ports it uses."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SHARED_HOME = Path("/var/lib/nightshift")
KUBERNETES_VERSION = "1.34.4"
NODE_NAME = "nightshift"
BRIDGE = "nightshift0"
CNI_NETWORK = "nightshift"
MARK = "NIGHTSHIFT_CLUSTER"

NETWORK = "10.250.0.0/16"
POD_SUBNET = "10.250.0.0/18"
POD_RANGE = ("10.250.1.1", "10.250.63.254")
SERVICE_SUBNET = "10.250.128.0/17"
NODE_ADDRESS = "10.250.0.1"
API_SERVICE_ADDRESS = "10.250.128.1"
DNS_SERVICE_ADDRESS = "10.250.128.10"
BRIDGE_MAC = "02:00:0a:fa:00:01"

API_PORT = 6443
REGISTRY_PORT = 5000
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
DNS_PORT = 10053
DNS_READY_PORT = 10054
KUBELET_PORT = 10250
KUBELET_HEALTH_PORT = 10248
CONTROLLER_PORT = 10257
SCHEDULER_PORT = 10259
PROXY_HEALTH_PORT = 10256
PROXY_METRICS_PORT = 10249
KWOK_PORT = 10247
LOOPBACK = "127.0.0.1"

API_SERVER = f"https://{NODE_ADDRESS}:{API_PORT}"
REGISTRY = f"{NODE_ADDRESS}:{REGISTRY_PORT}"
DEFAULT_IMAGE_PREFIX = f"{REGISTRY}/nightshift"

PORTS: dict[tuple[str, int], str] = {
    (NODE_ADDRESS, API_PORT): "kube-apiserver",
    (NODE_ADDRESS, REGISTRY_PORT): "registry",
    (LOOPBACK, ETCD_PORT): "etcd",
    (LOOPBACK, ETCD_PEER_PORT): "etcd",
    (NODE_ADDRESS, DNS_PORT): "coredns",
    (NODE_ADDRESS, DNS_READY_PORT): "coredns",
    (NODE_ADDRESS, KUBELET_PORT): "kubelet",
    (LOOPBACK, KUBELET_HEALTH_PORT): "kubelet",
    (LOOPBACK, CONTROLLER_PORT): "kube-controller-manager",
    (LOOPBACK, SCHEDULER_PORT): "kube-scheduler",
    (LOOPBACK, PROXY_HEALTH_PORT): "kube-proxy",
    (LOOPBACK, PROXY_METRICS_PORT): "kube-proxy",
}
"""Every address and port that the cluster listens on, with the process that does."""


class ClusterError(Exception):
    """Something stands in the way of the local cluster.

    Attributes:
        remedy: what the reader can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n  -> {remedy}")
        self.problem = problem
        self.remedy = remedy


def kubeconfig_files(text: str) -> list[Path]:
    """The files that a value of ``KUBECONFIG`` names, as kubectl reads it: separated by ``:``, blanks left out."""
    return [Path(part).absolute() for part in text.split(os.pathsep) if part]


def default_home(environment: Mapping[str, str], uid: int) -> Path:
    """The home where ``NIGHTSHIFT_HOME`` names none.

    Root's local cluster has ``/var/lib/nightshift``. Without root, or with a cluster of one's own, only clients and
    records are kept, in the user's cache (``XDG_CACHE_HOME``, by default ``~/.cache``): nothing of the host is touched.
    """
    shared = Settings(SHARED_HOME)
    files = kubeconfig_files(environment.get("KUBECONFIG", ""))
    if uid == 0 and files in ([], [shared.kubeconfig]):
        return shared.home
    cache = environment.get("XDG_CACHE_HOME", "")
    # The specification says to ignore a path that is not absolute.
    base = Path(cache) if cache.startswith("/") else Path(environment.get("HOME") or Path.home()) / ".cache"
    return base / "nightshift"


@dataclass(frozen=True)
class Settings:
    """The directories of one cluster; everything it writes lies below ``home``."""

    home: Path

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read ``NIGHTSHIFT_HOME``; :func:`default_home` says what holds without it."""
        chosen = os.environ.get("NIGHTSHIFT_HOME")
        return cls(Path(chosen).absolute() if chosen else default_home(os.environ, os.getuid()))

    def make_home(self) -> None:
        """Make the home directory if it is not there.

        Raises:
            ClusterError: it cannot be made, or not be written to.
        """
        remedy = "set NIGHTSHIFT_HOME to a directory that you may write to"
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ClusterError(f"the directory {self.home} cannot be made: {error.strerror}", remedy) from error
        if not os.access(self.home, os.W_OK | os.X_OK):
            raise ClusterError(f"the directory {self.home} may not be written to", remedy)

    @property
    def bin(self) -> Path:
        """Built binaries, each with its checksum."""
        return self.home / "bin"

    @property
    def cache(self) -> Path:
        """Downloads."""
        return self.home / "cache"

    @property
    def registry(self) -> Path:
        """Images pushed to the local registry; kept over ``down``."""
        return self.home / "registry"

    @property
    def containerd(self) -> Path:
        """Unpacked images; kept over ``down``."""
        return self.home / "containerd"

    @property
    def volumes(self) -> Path:
        """Data of the static volumes; emptied by ``down``."""
        return self.home / "volumes"

    @property
    def logs(self) -> Path:
        """One log per process and per build step."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """The life of one cluster: pids, certificates, etcd's data, kubeconfig."""
        return self.home / "run"

    @property
    def pids(self) -> Path:
        """One record per started process."""
        return self.run / "pids"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.run / "pki"

    @property
    def config(self) -> Path:
        """Configuration files of the processes."""
        return self.run / "config"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.run / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens."""
        return self.run / "containerd" / "containerd.sock"

    @property
    def lock(self) -> Path:
        """Held by the one command that changes the cluster."""
        return self.home / "lock"

    @property
    def timings(self) -> Path:
        """How long each step of the last ``up`` took."""
        return self.run / "timings.json"

    @property
    def cgroup(self) -> str:
        """The control group below which every pod of this cluster runs."""
        return f"nightshift-{hashlib.sha256(str(self.home).encode()).hexdigest()[:8]}"


def user_kubeconfig(settings: Settings) -> str | None:
    """The cluster that the user chose by ``KUBECONFIG``, as its files; None when that is the local one or unset."""
    files = kubeconfig_files(os.environ.get("KUBECONFIG", ""))
    if files in ([], [settings.kubeconfig]):
        return None
    return os.pathsep.join(map(str, files))
