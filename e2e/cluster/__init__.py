"""A real single-node Kubernetes cluster on this machine, or the user's own by ``KUBECONFIG``."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .objects import local_volume
from .processes import run
from .settings import API_SERVER, DEFAULT_IMAGE_PREFIX, ClusterError, Settings, user_kubeconfig

__all__ = ["ClusterAccess", "ClusterError", "Settings", "current", "kubectl", "local_volume"]


@dataclass(frozen=True)
class ClusterAccess:
    """How to reach the cluster in use.

    Attributes:
        registry: host and port of the registry that images are pushed to.
        image_prefix: images are ``PREFIX/NAME:TAG``.
        local: False for a cluster that the user chose by ``KUBECONFIG``; nothing of the host may be touched then.
        home: the state directory, also used for caches when the cluster is not local.
    """

    kubeconfig: Path
    kubectl: Path
    helm: Path
    registry: str
    image_prefix: str
    local: bool
    home: Path

    def environment(self) -> dict[str, str]:
        """The environment in which kubectl, helm and clients find this cluster."""
        return os.environ | {"KUBECONFIG": str(self.kubeconfig)}


def find_client(settings: Settings, name: str, *, local: bool) -> Path:
    """kubectl or helm: the pinned one for the local cluster, the user's own first for the user's cluster.

    Raises:
        ClusterError: there is none.
    """
    cached = settings.bin / name
    on_path = shutil.which(name)
    choices = [cached if cached.exists() else None, Path(on_path) if on_path else None]
    for choice in choices if local else reversed(choices):
        if choice is not None:
            return choice
    raise ClusterError(f"there is no {name}", f"install it, or run `python -m e2e.cluster tool {name}`")


def access() -> ClusterAccess:
    """How to reach the cluster in use, whether it answers or not."""
    settings = Settings.from_environment()
    chosen = user_kubeconfig(settings)
    prefix = os.environ.get("NIGHTSHIFT_IMAGE_PREFIX") or DEFAULT_IMAGE_PREFIX
    local = chosen is None
    return ClusterAccess(
        kubeconfig=chosen or settings.kubeconfig,
        kubectl=find_client(settings, "kubectl", local=local),
        helm=find_client(settings, "helm", local=local),
        registry=prefix.split("/", 1)[0],
        image_prefix=prefix,
        local=local,
        home=settings.home,
    )


def current() -> ClusterAccess:
    """The cluster in use, which answers.

    Raises:
        ClusterError: none is up, or the user's does not answer.
    """
    settings = Settings.from_environment()
    if user_kubeconfig(settings) is None and not settings.kubeconfig.exists():
        raise ClusterError("no local cluster is up", "run `python -m e2e.cluster up`, or set KUBECONFIG")
    found = access()
    argv = [str(found.kubectl), f"--kubeconfig={found.kubeconfig}", "--request-timeout=10s", "get", "--raw=/readyz"]
    done = run(argv, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        where = API_SERVER if found.local else str(found.kubeconfig)
        remedy = "run `python -m e2e.cluster up`" if found.local else "check KUBECONFIG, or unset it"
        raise ClusterError(f"the cluster at {where} does not answer: {said}", remedy)
    return found


def kubectl(*args: str, input: str | None = None) -> str:  # noqa: A002 - subprocess' own name for it
    """Run kubectl on the cluster in use and return its output.

    Raises:
        ClusterError: no cluster is up, or kubectl failed; the message holds what it said.
    """
    found = access()
    return run([str(found.kubectl), f"--kubeconfig={found.kubeconfig}", *args], input_text=input).stdout
