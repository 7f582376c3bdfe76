"""Looks at objects without a kubectl process for each: for stories that look at many things side by side."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

from e2e.cluster import ClusterAccess
from e2e.support.client import Client, KubectlError, Object
from nightshift.adapters.kube import CHILD_KINDS, Reference, object_path, plural
from nightshift.api import names

_KINDS = (*CHILD_KINDS, (names.API_VERSION, names.KIND), ("v1", "Event"), ("coordination.k8s.io/v1", "Lease"))
_BY_NAME = {name: (version, kind) for version, kind in _KINDS for name in (plural(version, kind), kind.lower())} | {
    "pvc": ("v1", "PersistentVolumeClaim")
}
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
TIMEOUT_SECONDS = 20.0


class DirectClient(Client):
    """The cluster as the administrator sees it; what kubectl names Nightshift knows is read over one connection."""

    def __init__(self, access: ClusterAccess, base: str) -> None:
        """Of a cluster, by the address at which `kubectl proxy` serves it."""
        super().__init__(access)
        self._base = base

    def get(self, kind: str, name: str, namespace: str) -> Object | None:
        """An object, or None."""
        if kind not in _BY_NAME:
            return super().get(kind, name, namespace)
        return self._read(object_path(Reference(*_BY_NAME[kind], namespace, name)))

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """All objects of some kinds in a namespace."""
        kinds = kind.split(",")
        if not set(kinds) <= _BY_NAME.keys():
            return super().list(kind, namespace, selector)
        query = f"?{urlencode({'labelSelector': selector})}" if selector else ""
        found: list[Object] = []
        for api_version, one in (_BY_NAME[name] for name in kinds):
            answer = self._read(object_path(Reference(api_version, one, namespace, "")) + query) or {}
            found += [{"apiVersion": api_version, "kind": one, **item} for item in answer.get("items") or ()]
        return found

    def _read(self, path: str) -> Object | None:
        try:
            with _OPENER.open(f"{self._base}{path}", timeout=TIMEOUT_SECONDS) as answer:
                found: Object = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise KubectlError(f"GET {path}: {error}") from error
        except (OSError, ValueError) as error:
            raise KubectlError(f"GET {path}: {error}") from error


@contextmanager
def direct(client: Client) -> Iterator[DirectClient]:
    """The same cluster, read directly for as long as the block lasts."""
    with client.background("proxy", "--port=0") as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = said.strip().rpartition(" ")[2]
        if not address.startswith("127.0.0.1:"):
            raise KubectlError(f"kubectl proxy gave no address: {said}")
        yield DirectClient(client.access, f"http://{address}")
