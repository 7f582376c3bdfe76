"""Which cluster is in use, the local one or the user's, and how to reach it."""

import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import builds
from .processes import past_proxies, run
from .settings import (
    API_SERVER,
    DEFAULT_IMAGE_PREFIX,
    ClusterError,
    Settings,
    kubeconfig_files,
    user_kubeconfig,
)

PREFIX = "NIGHTSHIFT_IMAGE_PREFIX"
PLAIN_HTTP = "NIGHTSHIFT_IMAGE_PLAIN_HTTP"


@dataclass(frozen=True)
class ClusterAccess:
    """How to reach the cluster in use.

    Attributes:
        kubeconfig: the value of ``KUBECONFIG``; one file, or the user's several.
        registry: host and port of the registry that the cluster pulls images from.
        image_prefix: images are ``PREFIX/NAME:TAG``; empty where the user's cluster is not told one.
        plain_http: the registry speaks HTTP without TLS.
        local: False for a cluster that the user chose by ``KUBECONFIG``; nothing of the host may be touched then.
        home: the state directory, also used for caches when the cluster is not local.
    """

    kubeconfig: str
    kubectl: Path
    helm: Path
    registry: str
    image_prefix: str
    plain_http: bool
    local: bool
    home: Path

    def environment(self) -> dict[str, str]:
        """The environment in which kubectl, helm and clients find this cluster; the local one past any proxy."""
        direct = past_proxies(os.environ) if self.local else {}
        return os.environ | direct | {"KUBECONFIG": self.kubeconfig}


def find_client(settings: Settings, name: str, *, local: bool) -> Path:
    """kubectl or helm: the pinned one for the local cluster, the user's own first for the user's cluster.

    Raises:
        ClusterError: there is none.
    """
    cached = settings.bin / name
    choices = [cached if cached.exists() else None, _on_path(name)]
    for choice in choices if local else reversed(choices):
        if choice is not None:
            return choice
    raise ClusterError(f"there is no {name}", f"install it, or run `python -m e2e.cluster tool {name}`")


def clients(settings: Settings) -> str:
    """Make sure that there are kubectl and helm for the user's cluster; what was done, for the progress line."""
    if all(_on_path(name) for name in builds.CLIENTS):
        return "on PATH"
    settings.make_home()
    return f"{builds.clients(settings)} in {settings.bin}"


def _on_path(name: str) -> Path | None:
    """The user's own kubectl, or helm where it is one that waits for custom resources."""
    found = shutil.which(name)
    if found is None or (name == "helm" and not _is_helm_4(found)):
        return None
    return Path(found)


@functools.cache
def _is_helm_4(helm: str) -> bool:
    """Helm 3 neither has the flags that we use nor waits until an LLMDeployment serves."""
    return run([helm, "version", "--template", "{{.Version}}"], check=False).stdout.startswith("v4.")


def demand_prefix() -> str:
    """Where the user's cluster pulls images from.

    Raises:
        ClusterError: nothing says so.
    """
    prefix = os.environ.get(PREFIX, "").rstrip("/")
    if not prefix:
        raise ClusterError(
            "KUBECONFIG names a cluster of yours, and nothing says where it pulls images from",
            f"push the images to a registry and set {PREFIX}, as in registry.example.org/nightshift"
            " (docs/local-cluster.md says which images)",
        )
    return prefix


def access() -> ClusterAccess:
    """How to reach the cluster in use, whether it answers or not."""
    settings = Settings.from_environment()
    chosen = user_kubeconfig(settings)
    local = chosen is None
    prefix = (os.environ.get(PREFIX) or (DEFAULT_IMAGE_PREFIX if local else "")).rstrip("/")
    return ClusterAccess(
        kubeconfig=chosen or str(settings.kubeconfig),
        kubectl=find_client(settings, "kubectl", local=local),
        helm=find_client(settings, "helm", local=local),
        registry=prefix.split("/", 1)[0],
        image_prefix=prefix,
        plain_http=local or os.environ.get(PLAIN_HTTP) == "1",
        local=local,
        home=settings.home,
    )


def current() -> ClusterAccess:
    """The cluster in use, which answers.

    Raises:
        ClusterError: none is up, or the user's does not answer.
    """
    settings = Settings.from_environment()
    chosen = user_kubeconfig(settings)
    if chosen is None and not settings.kubeconfig.exists():
        raise ClusterError("no local cluster is up", "run `python -m e2e.cluster up`, or set KUBECONFIG")
    if chosen is not None and not any(path.exists() for path in kubeconfig_files(chosen)):
        raise ClusterError(f"KUBECONFIG names {chosen}, and there is no such file", "correct KUBECONFIG, or unset it")
    found = access()
    argv = [str(found.kubectl), "--request-timeout=10s", "get", "--raw=/readyz"]
    done = run(argv, check=False, variables=found.environment())
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        where = API_SERVER if found.local else found.kubeconfig
        remedy = "run `python -m e2e.cluster up`" if found.local else "check KUBECONFIG, or unset it"
        raise ClusterError(f"the cluster at {where} does not answer: {said}", remedy)
    return found


def kubectl(*args: str, input: str | None = None) -> str:  # noqa: A002 - subprocess' own name for it
    """Run kubectl on the cluster in use and return its output.

    Raises:
        ClusterError: no cluster is up, or kubectl failed; the message holds what it said.
    """
    found = access()
    return run([str(found.kubectl), *args], input_text=input, variables=found.environment()).stdout
