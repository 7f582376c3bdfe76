"""The Kubernetes API server: server-side apply, deletion with preconditions, Events, Leases, logs.

Objects are plain dictionaries, as the API server speaks them; what they mean is decided elsewhere.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

from nightshift.api import names
from nightshift.core.kept import kept

Object = dict[str, Any]

REQUEST_TIMEOUT_SECONDS = 30
_MESSAGE_LIMIT = 1000
_LOG_LIMIT_BYTES = 512 * 1024
_PAGE = 100
"""Objects per page of a list: a page of pods is parsed to some ten megabytes before the most of it is dropped."""
_EVENTS = 100
"""About one object, more than there can be: recorders of client-go let pass 25 at once and one in five minutes, and
Events live for an hour (tools/record/events_cache.go)."""
_UNKNOWN_FIELD = "failed to create typed patch object"
"""How the API server answers server-side apply of a field that it does not know: with status 500, as if it
were its own fault (Kubernetes 1.34, managedfields/internal/structuredmerge.go)."""
_PLURALS = {
    ("discovery.k8s.io/v1", "EndpointSlice"): "endpointslices",
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Event"): "events",
    ("v1", "PersistentVolumeClaim"): "persistentvolumeclaims",
    ("v1", "Pod"): "pods",
    ("v1", "Service"): "services",
    ("v1", "ServiceAccount"): "serviceaccounts",
    ("apps/v1", "ControllerRevision"): "controllerrevisions",
    ("apps/v1", "ReplicaSet"): "replicasets",
    ("batch/v1", "Job"): "jobs",
    ("coordination.k8s.io/v1", "Lease"): "leases",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    (names.API_VERSION, names.KIND): names.PLURAL,
}
CHILD_KINDS: tuple[tuple[str, str], ...] = (
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "ControllerRevision"),
    ("apps/v1", "ReplicaSet"),
    ("batch/v1", "Job"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
)
"""The kinds that Nightshift makes, or that are made for it, with their API versions."""


class KubeError(Exception):
    """A request that the API server refused or did not answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        """HTTP status; 0 where there was no answer."""
        self.reason = reason
        self.message = message

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later without anyone changing it."""
        return self.status in (0, 409, 410, 429) or self.status >= 500


@dataclass(frozen=True)
class Reference:
    """Where an object lies."""

    api_version: str
    kind: str
    namespace: str
    name: str


def reference(manifest: Mapping[str, Any]) -> Reference:
    """Where a manifest's object lies."""
    metadata = manifest["metadata"]
    return Reference(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])


def only_new(manifest: Object) -> Object:
    """The manifest for server-side apply that creates, and is refused with 409 where an object of this name exists.

    No object has this version, since etcd counts its writes from 2 on. The API server compares versions before it
    changes anything, and has nothing to compare where there is no object (Kubernetes 1.34, Store.Update in
    registry/generic/registry/store.go).
    """
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "1"}}


def plural(api_version: str, kind: str) -> str:
    """The resource name of a kind, as in URLs and RBAC rules."""
    return _PLURALS[(api_version, kind)]


def object_path(where: Reference, subresource: str = "") -> str:
    """URL path of an object.

    Worked example: a ReplicaSet ``a`` in ``ml`` is ``/apis/apps/v1/namespaces/ml/replicasets/a``.
    """
    root = "/api" if "/" not in where.api_version else "/apis"
    resource = plural(where.api_version, where.kind)
    path = f"{root}/{where.api_version}/namespaces/{quote(where.namespace, safe='')}/{resource}"
    if where.name:
        path += f"/{quote(where.name, safe='')}"
    return f"{path}/{subresource}" if subresource else path


class Kube(Protocol):
    """What the runtime needs of the API server."""

    async def get(self, where: Reference) -> Object | None:
        """Read an object; None where there is none."""

    async def find(self, where: Reference) -> Object | None:
        """Read an object by the right to list; None where there is none."""

    async def list(self, api_version: str, kind: str, label_selector: str = "", namespace: str = "") -> list[Object]:
        """All objects of a kind, of one namespace or of all."""

    async def apply(self, manifest: Object, field_manager: str, subresource: str = "") -> Object:
        """Server-side apply of a whole object, taking over conflicting fields."""

    async def create(self, manifest: Object) -> Object:
        """Create an object; a KubeError with status 409 where the name is taken."""

    async def replace(self, manifest: Object) -> Object:
        """Replace an object at the resourceVersion that the manifest carries."""

    async def delete(self, where: Reference, uid: str, resource_version: str, grace_seconds: int | None = None) -> bool:
        """Delete exactly this version of an object, its dependents in the background.

        Args:
            where: The object.
            uid: Its uid, a precondition.
            resource_version: Its version, a precondition.
            grace_seconds: For a pod: time to end, where it is not to be the pod's own.

        Returns:
            Whether it was there.
        """

    async def merge(self, where: Reference, patch: Object) -> Object:
        """Change an object by a JSON merge patch, which names uid and resourceVersion as preconditions."""

    async def evict(self, where: Reference, uid: str) -> None:
        """Evict exactly this pod; a KubeError with status 429 where a PodDisruptionBudget does not allow it now."""

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int, previous: bool = False) -> str:
        """The last lines that a container wrote; or the one before it, that ended."""

    async def events_about(self, namespace: str, uid: str) -> Sequence[Object]:
        """The Events about one object."""


Told = Callable[[str, int], None]
"""Told of the method and status of every request; status 0 where there was no answer."""


async def connect(told: Told = lambda method, status: None) -> "KubeClient":
    """Connect with the pod's service account, or with a kubeconfig outside a cluster."""
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        await load_kube_config(client_configuration=configuration)
    # No proxy but one that the kubeconfig names, as for kopf's watches; else a thread reads ~/.netrc for each request.
    configuration.client_session_kwargs = {"trust_env": False}
    return KubeClient(ApiClient(configuration), told)


class KubeClient:
    """The API server by kubernetes.aio."""

    def __init__(self, client: ApiClient, told: Told = lambda method, status: None) -> None:
        self._client = client
        self._told = told

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def get(self, where: Reference) -> Object | None:
        """Read an object; None where there is none."""
        try:
            return _object(await self._request("GET", object_path(where)))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def find(self, where: Reference) -> Object | None:
        """Read an object by the right to list, which its kind is watched with anyway; None where there is none."""
        query = urlencode({"fieldSelector": f"metadata.name={where.name}"})
        path = object_path(Reference(where.api_version, where.kind, where.namespace, ""))
        items = _object(await self._request("GET", f"{path}?{query}")).get("items") or ()
        return {**items[0], "apiVersion": where.api_version, "kind": where.kind} if items else None

    async def list(self, api_version: str, kind: str, label_selector: str = "", namespace: str = "") -> list[Object]:
        """All objects of a kind, of one namespace or of all, page by page, as the cache keeps them."""
        root = "/api" if "/" not in api_version else "/apis"
        within = f"namespaces/{quote(namespace, safe='')}/" if namespace else ""
        path = f"{root}/{api_version}/{within}{plural(api_version, kind)}"
        query = {"limit": str(_PAGE)}
        if label_selector:
            query["labelSelector"] = label_selector
        items: list[Object] = []
        while True:
            page = _object(await self._request("GET", f"{path}?{urlencode(query)}"))
            items += [kept(kind, {**item, "apiVersion": api_version, "kind": kind}) for item in page.get("items") or ()]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return items
            query["continue"] = token

    async def read(self, path: str) -> Object:
        """What lies at a path of the API server, such as one page of a list."""
        return _object(await self._request("GET", path))

    async def stream(self, path: str, silence_seconds: float) -> AsyncIterator[bytes]:
        """The lines that the API server sends, as it sends them.

        Args:
            path: Of a watch.
            silence_seconds: A TimeoutError is raised after this time without a line.

        Raises:
            KubeError: The API server refuses.
        """
        headers = {"Accept": "application/json", "User-Agent": "nightshift"}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_SECONDS, sock_read=silence_seconds)
        response = await self._client.call_api(
            "GET", self._client.configuration.host + path, header_params=headers, _request_timeout=timeout
        )
        stream: aiohttp.ClientResponse = response.response
        try:
            if stream.status >= 400:
                raise _error(stream.status, await stream.read())
            # Not readline: an object may be longer than its limit.
            rest = b""
            async for chunk in stream.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line
        finally:
            stream.close()

    async def served(self, api_version: str) -> bool:
        """Whether the API server knows an API group and version."""
        try:
            await self._request("GET", f"/apis/{api_version}")
        except KubeError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def apply(self, manifest: Object, field_manager: str, subresource: str = "") -> Object:
        """Server-side apply of a whole object, taking over conflicting fields."""
        path = object_path(reference(manifest), subresource)
        query = urlencode({"fieldManager": field_manager, "force": "true"})
        return _object(await self._request("PATCH", f"{path}?{query}", manifest, "application/apply-patch+yaml"))

    async def create(self, manifest: Object) -> Object:
        """Create an object; a KubeError with status 409 where the name is taken."""
        where = reference(manifest)
        path = object_path(Reference(where.api_version, where.kind, where.namespace, ""))
        return _object(await self._request("POST", f"{path}?fieldManager={names.FIELD_MANAGER}", manifest))

    async def replace(self, manifest: Object) -> Object:
        """Replace an object at the resourceVersion that the manifest carries."""
        path = f"{object_path(reference(manifest))}?fieldManager={names.FIELD_MANAGER}"
        return _object(await self._request("PUT", path, manifest))

    async def delete(self, where: Reference, uid: str, resource_version: str, grace_seconds: int | None = None) -> bool:
        """Delete exactly this version of an object, its dependents in the background.

        Args:
            where: The object.
            uid: Its uid, a precondition.
            resource_version: Its version, a precondition.
            grace_seconds: For a pod: time to end, where it is not to be the pod's own.

        Returns:
            Whether it was there.
        """
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
        }
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._request("DELETE", object_path(where), options)
        except KubeError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def merge(self, where: Reference, patch: Object) -> Object:
        """Change an object by a JSON merge patch, which names uid and resourceVersion as preconditions."""
        path = f"{object_path(where)}?fieldManager={names.FIELD_MANAGER}"
        return _object(await self._request("PATCH", path, patch, "application/merge-patch+json"))

    async def evict(self, where: Reference, uid: str) -> None:
        """Evict exactly this pod; a KubeError with status 429 where a PodDisruptionBudget does not allow it now."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": where.name, "namespace": where.namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            await self._request("POST", object_path(where, "eviction"), eviction)
        except KubeError as error:
            if error.status != 404:
                raise

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int, previous: bool = False) -> str:
        """The last lines that a container wrote; or the one before it, that ended.

        At most 512 KiB are read. The API server counts them from the first of these lines on.
        """
        path = object_path(Reference("v1", "Pod", namespace, pod), "log")
        fields = {"container": container, "tailLines": str(lines), "limitBytes": str(_LOG_LIMIT_BYTES)}
        query = urlencode(fields | ({"previous": "true"} if previous else {}))
        return (await self._request("GET", f"{path}?{query}")).decode(errors="replace")

    async def events_about(self, namespace: str, uid: str) -> Sequence[Object]:
        """The Events about one object, at most a hundred."""
        query = urlencode({"fieldSelector": f"involvedObject.uid={uid}", "limit": str(_EVENTS)})
        path = object_path(Reference("v1", "Event", namespace, ""))
        return tuple(_object(await self._request("GET", f"{path}?{query}")).get("items") or ())

    async def _request(
        self, method: str, path: str, body: Object | None = None, content_type: str = "application/json"
    ) -> bytes:
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": "nightshift"}
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            response = await self._client.call_api(
                method,
                self._client.configuration.host + path,
                header_params=headers,
                body=body,
                _request_timeout=REQUEST_TIMEOUT_SECONDS,
            )
            data: bytes = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            self._told(method, 0)
            raise KubeError(0, "Unreachable", f"the API server did not answer: {error!r}") from error
        self._told(method, response.status)
        if response.status >= 400:
            raise _error(response.status, data)
        return data


def _object(data: bytes) -> Object:
    try:
        parsed = json.loads(data)
    except ValueError as error:
        raise KubeError(0, "Malformed", f"the API server answered something that is no JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise KubeError(0, "Malformed", "the API server answered something that is no object")
    return parsed


def _error(status: int, data: bytes) -> KubeError:
    try:
        parsed = json.loads(data)
        reason, message = str(parsed.get("reason") or ""), str(parsed.get("message") or "")[:_MESSAGE_LIMIT]
    except (ValueError, AttributeError):
        return KubeError(status, "", data[:200].decode(errors="replace"))
    if status == 500 and message.startswith(_UNKNOWN_FIELD):
        return KubeError(422, "Invalid", message)
    return KubeError(status, reason, message)
