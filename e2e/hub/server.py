"""The HTTP surface of the Hub, as far as its Python client uses it to resolve, list and download."""

import asyncio
import json
import re
from pathlib import Path
from typing import NoReturn

from aiohttp import web

from e2e.hub.faults import Asked, Fault, Switchboard
from e2e.hub.store import Commit, Repository, Store, StoredFile

_BLOCK = 64 * 1024
_ASKED = web.RequestKey("asked", Asked)
_FAULT = web.RequestKey("fault", Fault)
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class HubServer:
    """Answers for the models below a root."""

    def __init__(self, root: Path, cdn: str | None = None, page_size: int = 1000) -> None:
        """Set up the server.

        Args:
            root: Directory of the models.
            cdn: Base address that large files are redirected to, as the Hub does; it must lead to this
                server. Default: they are sent at once.
            page_size: Entries of a listing before it continues on another page.
        """
        self.switchboard = Switchboard()
        self._store = Store(root)
        self.cdn = cdn
        self._page_size = page_size
        self._stored: dict[str, StoredFile] = {}

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._recorded])
        model = "/api/models/{organisation}/{name}"
        app.router.add_get(model, self._info)
        app.router.add_get(model + "/revision/{revision}", self._info)
        app.router.add_get(model + "/tree/{revision}", self._tree)
        app.router.add_get(model + "/tree/{revision}/{folder:.+}", self._tree)
        app.router.add_get("/{organisation}/{name}/resolve/{revision}/{path:.+}", self._resolve)
        app.router.add_get("/_cdn/{sha256}", self._content)
        app.router.add_get("/_requests", self._requests)
        app.router.add_put("/_faults", self._faults)
        app.router.add_get("/healthz", self._health)
        return app

    @web.middleware
    async def _recorded(self, request: web.Request, handler: object) -> web.StreamResponse:
        assert callable(handler)
        if not request.path.startswith(("/_requests", "/_faults", "/healthz")):
            asked = Asked(
                request.method, request.path, request.headers.get("Range"), "Authorization" in request.headers
            )
            self.switchboard.record(asked)
            request[_ASKED] = asked
            fault = self.switchboard.pick(request.path)
            request[_FAULT] = fault
            await asyncio.sleep(fault.delay_seconds)
            if fault.status is not None:
                return web.Response(status=fault.status, text="a fault that a test switched on")
        response: web.StreamResponse = await handler(request)
        return response

    async def _info(self, request: web.Request) -> web.Response:
        repository = self._repository(request)
        commit = _commit(repository, request.match_info.get("revision", "main"))
        blobs = request.query.get("blobs", "").lower() == "true"
        return web.json_response(
            {
                "id": repository.name,
                "modelId": repository.name,
                "sha": commit.sha,
                "private": repository.private is not None,
                "gated": "manual" if repository.gate is not None else False,
                "disabled": False,
                "tags": [],
                "siblings": [_sibling(file, blobs) for file in commit.files],
            },
            headers={"X-Repo-Commit": commit.sha},
        )

    async def _tree(self, request: web.Request) -> web.Response:
        commit = _commit(self._repository(request), request.match_info["revision"])
        folder = request.match_info.get("folder", "").strip("/")
        recursive = request.query.get("recursive", "").lower() == "true"
        entries = _entries(commit, folder, recursive)
        if folder and not entries:
            _refuse(404, "EntryNotFound", f"{folder} does not exist on {commit.sha}")
        start = int(request.query.get("cursor", "0"))
        end = start + self._page_size
        headers = {}
        if end < len(entries):
            following = request.url.update_query(cursor=str(end))
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(entries[start:end], headers=headers)

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        repository = self._repository(request)
        self._check_gate(request, repository)
        commit = _commit(repository, request.match_info["revision"])
        file = commit.file(request.match_info["path"])
        if file is None:
            _refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit.sha})
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{file.git_oid}"'}
        if file.large:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            if self.cdn is not None:
                self._stored[file.sha256] = file
                headers["Location"] = f"{self.cdn}/_cdn/{file.sha256}"
                return web.Response(status=302, headers=headers)
        return await _send(request, file, headers)

    async def _content(self, request: web.Request) -> web.StreamResponse:
        file = self._stored.get(request.match_info["sha256"])
        if file is None:
            raise web.HTTPForbidden(text="The link is not signed.")
        return await _send(request, file, {"ETag": f'"{file.sha256}"'})

    async def _requests(self, _: web.Request) -> web.Response:
        return web.json_response(self.switchboard.to_json())

    async def _faults(self, request: web.Request) -> web.Response:
        self.switchboard.replace(await request.json())
        return web.Response(status=204)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    def _repository(self, request: web.Request) -> Repository:
        token = self._token(request)
        repository = self._store.repository(request.match_info["organisation"], request.match_info["name"])
        if repository is None or (repository.private is not None and token not in repository.private):
            # The Hub does not tell a private repository from a missing one.
            if token is None:
                _refuse(401, "RepoNotFound", "Invalid username or password.")
            _refuse(404, "RepoNotFound", "Repository not found")
        return repository

    def _token(self, request: web.Request) -> str | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        token = header.removeprefix("Bearer ")
        if token not in self._store.known_tokens():
            _refuse(401, None, "Invalid credentials in Authorization header")
        return token

    def _check_gate(self, request: web.Request, repository: Repository) -> None:
        token = self._token(request)
        if repository.gate is not None and token not in repository.gate:
            _refuse(
                401 if token is None else 403,
                "GatedRepo",
                f"Access to model {repository.name} is restricted and you are not in the authorized list.",
            )


async def _send(request: web.Request, file: StoredFile, headers: dict[str, str]) -> web.StreamResponse:
    fault = request[_FAULT]
    asked = request[_ASKED]
    start, end = 0, file.size
    wanted = None if fault.ignore_range else _RANGE.fullmatch(request.headers.get("Range", ""))
    if wanted:
        start = int(wanted[1])
        end = min(file.size, int(wanted[2]) + 1 if wanted[2] else file.size)
        if start >= end:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{file.size}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
    response.headers["Accept-Ranges"] = "bytes"
    response.content_type = "application/octet-stream"
    response.content_length = end - start
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    block = min(_BLOCK, max(1, (fault.bytes_per_second or _BLOCK * 20) // 20))
    position = start
    with file.location.open("rb") as content:
        content.seek(start)
        while position < end:
            await _interrupt(request, fault, asked.sent_bytes)
            data = content.read(min(block, end - position, _left(fault, asked.sent_bytes)))
            position += len(data)
            if fault.damage and position == file.size:
                data = data[:-1] + bytes([data[-1] ^ 0xFF])
            await response.write(data)
            asked.sent_bytes += len(data)
            if fault.bytes_per_second:
                await asyncio.sleep(len(data) / fault.bytes_per_second)
    await response.write_eof()
    return response


def _left(fault: Fault, sent: int) -> int:
    limits = [limit for limit in (fault.stall_after_bytes, fault.cut_after_bytes) if limit is not None]
    return min((limit - sent for limit in limits), default=_BLOCK)


async def _interrupt(request: web.Request, fault: Fault, sent: int) -> None:
    if fault.cut_after_bytes is not None and sent >= fault.cut_after_bytes:
        assert request.transport is not None
        request.transport.close()
        raise ConnectionResetError("a fault that a test switched on")
    if fault.stall_after_bytes is not None and sent >= fault.stall_after_bytes:
        await asyncio.Event().wait()


def _commit(repository: Repository, revision: str) -> Commit:
    commit = repository.commit(revision)
    if commit is None:
        _refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return commit


def _sibling(file: StoredFile, blobs: bool) -> dict[str, object]:
    sibling: dict[str, object] = {"rfilename": file.path}
    if blobs:
        sibling |= {"size": file.size, "blobId": file.git_oid}
        if file.large:
            sibling["lfs"] = {
                "sha256": file.sha256,
                "size": file.size,
                "pointerSize": len(file.pointer()),
            }
    return sibling


def _entries(commit: Commit, folder: str, recursive: bool) -> list[dict[str, object]]:
    prefix = f"{folder}/" if folder else ""
    entries: list[dict[str, object]] = []
    folders: set[str] = set()
    for file in commit.files:
        if not file.path.startswith(prefix):
            continue
        above = file.path[len(prefix) :].split("/")[:-1]
        for depth in range(1, len(above) + 1) if recursive else range(1, min(len(above), 1) + 1):
            path = prefix + "/".join(above[:depth])
            if path not in folders:
                folders.add(path)
                entries.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        if recursive or not above:
            entries.append(file.tree_entry())
    return entries


def _refuse(status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> NoReturn:
    refusal = {"X-Error-Message": " ".join(message.split()), **(headers or {})}
    if code is not None:
        refusal["X-Error-Code"] = code
    kind = {401: web.HTTPUnauthorized, 403: web.HTTPForbidden, 404: web.HTTPNotFound}[status]
    raise kind(headers=refusal, text=json.dumps({"error": message}), content_type="application/json")
