"""The container beside an engine that fetches LoRA adapters: it is told which, and tells how far each is.

It is asked by HTTP, `PUT /adapters` with all that is wanted; the answer says the state of each. What is neither wanted
nor in use is deleted. Nothing here ends the container: the base model beside it serves on, whatever an adapter is.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pydantic import ValidationError

from nightshift.api.adapters import AdapterState, WantedAdapter, WantedAdapters
from nightshift.api.adapters import AdapterStates as States
from nightshift.api.fetch import Downloaded, Failed, FetchOutcome, FetchReason
from nightshift.core.adapter_files import Misfit

RETRY_SECONDS = 60.0
"""After a failure: the Hub may be back, a token may have got access."""

_BODY_BYTES = 64 * 1024

Fetch = Callable[[str, str, Path], FetchOutcome]
"""Given repository, commit and directory: download it."""
Check = Callable[[Path], Misfit | None]
"""Given the directory of a downloaded adapter: whether it fits the base."""


@dataclass(frozen=True)
class _Known:
    state: AdapterState
    again: float
    """Moment, of the monotonic clock, from which it may be tried again."""


class Keeper:
    """Keeps a directory with one directory per commit that is wanted."""

    def __init__(self, root: Path, fetch: Fetch, check: Check, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._fetch = fetch
        self._check = check
        self._clock = clock
        self._lock = threading.Lock()
        self._wanted: dict[str, WantedAdapter] = {}
        self._keep: frozenset[str] | None = None
        """What is not wanted and stays; None where nobody said, and then everything stays."""
        self._known: dict[str, _Known] = {}
        self.changed = threading.Event()

    def sync(self, wanted: WantedAdapters) -> States:
        """Take note of all that is wanted, and tell how far each is."""
        with self._lock:
            self._wanted = {item.sha: item for item in wanted.adapters}
            self._keep = None if wanted.keep is None else frozenset(wanted.keep)
            states = [self._state(sha) for sha in self._wanted]
        self.changed.set()
        return States(adapters=tuple(states))

    def _state(self, sha: str) -> AdapterState:
        known = self._known.get(sha)
        return known.state if known is not None else AdapterState(sha=sha, phase="Fetching")

    def run(self) -> None:
        """Work until the process ends."""
        while True:
            self.changed.clear()
            while self.step():
                pass
            self.changed.wait(RETRY_SECONDS)

    def step(self) -> bool:
        """Delete what nobody wants, then fetch one adapter. False when there was none to fetch."""
        with self._lock:
            wanted, keep = self._wanted, self._keep
            if keep is not None:
                self._known = {sha: known for sha, known in self._known.items() if sha in wanted or sha in keep}
            due = [item for sha, item in wanted.items() if self._due(sha)]
        if keep is not None:
            self._sweep(keep.union(wanted))
        if not due:
            return False
        state = self._bring(due[0])
        again = float("inf") if state.phase == "Ready" else self._clock() + RETRY_SECONDS
        with self._lock:
            self._known[state.sha] = _Known(state, again)
        return True

    def _due(self, sha: str) -> bool:
        known = self._known.get(sha)
        return known is None or known.again <= self._clock()

    def _sweep(self, kept: frozenset[str]) -> None:
        for path in self._root.iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def _bring(self, item: WantedAdapter) -> AdapterState:
        directory = self._root / item.sha
        try:
            outcome = self._fetch(item.repository, item.sha, directory)
            found = self._check(directory) if isinstance(outcome, Downloaded) else None
        except Exception as error:
            reason = FetchReason.ADAPTER_DOWNLOAD_FAILED
            return _failed(item.sha, reason, f"Adapter files could not be written or read: {type(error).__name__}.")
        if isinstance(outcome, Failed):
            return _failed(item.sha, outcome.reason, outcome.message)
        if found is not None:
            message = f"The adapter in {item.repository} cannot be served: {found.message}"
            return _failed(item.sha, found.reason, message)
        return AdapterState(sha=item.sha, phase="Ready")


def _failed(sha: str, reason: FetchReason, message: str) -> AdapterState:
    return AdapterState(sha=sha, phase="Failed", reason=reason, message=message)


def serve(keeper: Keeper, port: int, host: str = "") -> ThreadingHTTPServer:
    """A server that answers for the keeper; the caller runs it."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version = "nightshift"
        sys_version = ""

        def do_PUT(self) -> None:
            length = self.headers.get("Content-Length", "")
            if self.path != "/adapters" or not length.isdecimal() or int(length) > _BODY_BYTES:
                self._answer(HTTPStatus.BAD_REQUEST, {"error": "PUT /adapters with a length is understood"})
                return
            try:
                wanted = WantedAdapters.model_validate_json(self.rfile.read(int(length)))
            except ValidationError:
                self._answer(HTTPStatus.BAD_REQUEST, {"error": "the body is no list of adapters"})
                return
            self._answer(HTTPStatus.OK, keeper.sync(wanted).to_json())

        def _answer(self, status: HTTPStatus, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
            """Say nothing: the same question comes every minute."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server
