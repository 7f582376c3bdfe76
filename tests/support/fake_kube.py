"""The runtime's view of the in-memory API server, with faults: the protocol of adapters.kube."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nightshift.adapters.kube import KubeError, Object, Reference
from tests.support.api_server import ApiServer, Write


class Crash(BaseException):
    """The process ended here: nothing of Nightshift may catch it."""


class FakeKube:
    """`adapters.kube.Kube` over an ApiServer; a test may make requests fail or the process end."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.requests = 0
        self.attempted_writes = 0
        self.crash_before: int | None = None
        """The process ends before this write, counted from 0."""
        self.crash_after: int | None = None
        """The process ends after this write was carried out and before its answer is read."""
        self.failures: list[KubeError] = []
        """Raised by the next requests, one each."""
        self.failing: Callable[[str, str, str], KubeError | None] = lambda verb, kind, name: None
        """Given verb, kind and name of a request: the error that it gets, if any."""
        self.before_request: Callable[[], Awaitable[None]] | None = None
        self.logs: dict[tuple[str, str], str] = {}
        self.previous_logs = 0
        """How often the log of a container was read that ended before the present one."""

    async def _enter(self, verb: str, kind: str, name: str) -> None:
        self.requests += 1
        if self.before_request is not None:
            await self.before_request()
        if self.failures:
            raise self.failures.pop(0)
        error = self.failing(verb, kind, name)
        if error is not None:
            raise error

    async def _write(self, verb: str, kind: str, name: str, action: Callable[[], Any]) -> Any:
        index = self.attempted_writes
        self.attempted_writes += 1
        if self.crash_before == index:
            raise Crash
        await self._enter(verb, kind, name)
        try:
            result = action()
        except KubeError:
            self.attempted_writes -= 1  # refused: nothing changed, so ending here is ending after the write before
            raise
        self.server.writes.append(Write(verb, kind, name))
        if self.crash_after == index:
            raise Crash
        return result

    async def get(self, where: Reference) -> Object | None:
        await self._enter("get", where.kind, where.name)
        return self.server.get(where)

    async def find(self, where: Reference) -> Object | None:
        await self._enter("find", where.kind, where.name)
        return self.server.get(where)

    async def list(self, api_version: str, kind: str, label_selector: str = "", namespace: str = "") -> list[Object]:
        await self._enter("list", kind, "")
        found = self.server.listed(api_version, kind, label_selector)
        return [raw for raw in found if namespace in ("", raw["metadata"]["namespace"])]

    async def apply(self, manifest: Object, field_manager: str, subresource: str = "") -> Object:
        verb, kind, name = subresource or "apply", manifest["kind"], manifest["metadata"]["name"]
        result: Object = await self._write(
            verb, kind, name, lambda: self.server.apply(manifest, field_manager, subresource)
        )
        return result

    async def create(self, manifest: Object) -> Object:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        result: Object = await self._write("create", kind, name, lambda: self.server.create(manifest))
        return result

    async def replace(self, manifest: Object) -> Object:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        result: Object = await self._write("replace", kind, name, lambda: self.server.replace(manifest))
        return result

    async def merge(self, where: Reference, patch: Object) -> Object:
        result: Object = await self._write("merge", where.kind, where.name, lambda: self.server.merge(where, patch))
        return result

    async def evict(self, where: Reference, uid: str) -> None:
        try:
            await self._write("evict", where.kind, where.name, lambda: self.server.evict(where, uid))
        except KubeError as error:
            if error.status != 404:
                raise

    async def delete(self, where: Reference, uid: str, resource_version: str, grace_seconds: int | None = None) -> bool:
        try:
            await self._write(
                "delete",
                where.kind,
                where.name,
                lambda: self.server.delete(where, uid, resource_version, grace_seconds),
            )
        except KubeError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int, previous: bool = False) -> str:
        await self._enter("log", "Pod", pod)
        self.previous_logs += previous
        if (pod, container) not in self.logs:
            raise KubeError(404, "NotFound", f"pod {pod} not found")
        return "\n".join(self.logs[(pod, container)].splitlines()[-lines:])

    async def events_about(self, namespace: str, uid: str) -> Sequence[Object]:
        await self._enter("list", "Event", "")
        found = self.server.listed("v1", "Event")
        return [raw for raw in found if raw["involvedObject"].get("uid") == uid]
