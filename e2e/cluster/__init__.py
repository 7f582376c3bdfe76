"""A real single-node Kubernetes cluster on this machine, or the user's own by ``KUBECONFIG``."""

from .objects import local_volume
from .reach import ClusterAccess, access, current, kubectl
from .settings import ClusterError, Settings

__all__ = ["ClusterAccess", "ClusterError", "Settings", "access", "current", "kubectl", "local_volume"]
