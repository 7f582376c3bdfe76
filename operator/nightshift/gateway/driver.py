"""Brings HAProxy into the state that is decided: files first, then the socket."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from nightshift.adapters.haproxy import HaproxyError, Socket
from nightshift.core.gateway.answers import error_files
from nightshift.core.gateway.desired import Decision
from nightshift.core.gateway.diff import Command, diff, nudges
from nightshift.core.gateway.memory import read_memory, write_memory
from nightshift.core.gateway.render import config, server_options
from nightshift.core.gateway.settings import CONFIG, MAPS, MASTER_SOCKET, MEMORY, RUNTIME_SOCKET, Settings
from nightshift.core.gateway.slots import Assignment
from nightshift.core.gateway.state import Live, LiveSlot, Server
from nightshift.gateway.agent_telemetry import Telemetry
from nightshift.gateway.files import Files

logger = logging.getLogger(__name__)

RELOAD_SECONDS = 10.0
"""A process that has read the new configuration must answer within it."""
RELOAD_PAUSE_SECONDS = 10.0
"""After a reload that failed."""
_LOOK_SECONDS = 0.02


class Driver:
    """Writes HAProxy's files and gives it commands.

    Args:
        settings: Of this gateway.
        telemetry: What is counted.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self.files = Files(Path(settings.run))
        self._socket = Socket(Path(settings.path(RUNTIME_SOCKET)))
        self._master = Socket(Path(settings.path(MASTER_SOCKET)))
        self._no_reload_before = 0.0
        self._former_unknown = False

    def remembered(self) -> Assignment:
        """Which slot was whose when the files were written last."""
        text = self.files.read(MEMORY)
        if text is None:
            return Assignment()
        try:
            return read_memory(text)
        except ValueError as error:
            logger.error("%s is not read, slots are handed out anew: %s", MEMORY, error)
            return Assignment()

    async def live(self) -> Live | None:
        """The state of the process, or None where it does not answer."""
        try:
            return await self._socket.read()
        except HaproxyError as error:
            self._telemetry.socket_errors.inc()
            logger.warning("%s", error)
            return None

    async def slots(self) -> Mapping[str, LiveSlot] | None:
        """The slots with their servers, or None where the process does not answer."""
        try:
            return await self._socket.read_slots()
        except HaproxyError as error:
            self._telemetry.socket_errors.inc()
            logger.warning("%s", error)
            return None

    async def former(self) -> list[dict[str, LiveSlot]] | None:
        """The slots of processes that a reload replaced and that still have requests, or None where nobody says."""
        try:
            found = await self._master.read_former()
        except HaproxyError as error:
            if not self._former_unknown:
                logger.warning(
                    "Requests of a process that a reload replaced cannot be counted, so that the demand is unknown and "
                    "no slot changes hands; it is asked again every second. If this lasts, delete the gateway pod: %s",
                    error,
                )
            self._former_unknown = True
            return None
        if self._former_unknown:
            logger.info("Requests of processes that a reload replaced can be counted again")
        self._former_unknown = False
        return found

    def write(self, decision: Decision) -> None:
        """Write all files, so that a process that starts from them has the state that is decided."""
        desired, assignment = decision.desired, decision.assignment
        servers: dict[str, list[Server]] = {slot: list(found.values()) for slot, found in desired.servers.items()}
        changed = self.files.write(
            {
                MEMORY: write_memory(assignment),
                **error_files(),
                **{name: _map_file(desired.maps[name]) for name in MAPS},
                CONFIG: config(self._settings, assignment.pools, servers, desired.fingerprint),
            }
        )
        if changed:
            logger.info("Written: %s", ", ".join(changed))

    async def apply(self, decision: Decision, live: Live) -> bool:
        """Bring the process into the state that is decided; whether it is.

        It is not where a command was refused, or a server is still to be deleted when its requests have ended.
        """
        way = diff(live, decision.desired, self._map_paths(), self._options)
        if way.reload and self._now() >= self._no_reload_before:
            fresh = await self._reload(decision.desired.fingerprint)
            if fresh is None:
                self._no_reload_before = self._now() + RELOAD_PAUSE_SECONDS
            else:
                live, way = fresh, diff(fresh, decision.desired, self._map_paths(), self._options)
        done = [await self._give(command) for command in way.commands]
        leftover = any(set(slot.servers) - set(decision.desired.servers.get(n, ())) for n, slot in live.slots.items())
        return all(done) and not way.reload and not leftover

    async def nudge(self, slots: Mapping[str, LiveSlot]) -> None:
        """Let requests that wait go where there is room."""
        for command in nudges(slots):
            await self._give(command, counted=False)

    async def _give(self, command: Command, *, counted: bool = True) -> bool:
        try:
            answer = (await self._socket.ask(command.text)).strip()
        except HaproxyError as error:
            self._telemetry.socket_errors.inc()
            logger.warning("%s", error)
            return False
        if command.good in answer if command.good else not answer:
            if counted:
                self._telemetry.commands.inc()
            return True
        if not command.optional:
            self._telemetry.socket_errors.inc()
            logger.warning("HAProxy refused %r: %s", command.text, answer)
        return False

    async def _reload(self, fingerprint: str) -> Live | None:
        """Have the configuration read anew; the state of the process that did, or None."""
        logger.info("HAProxy reads its configuration anew")
        asked = False
        deadline = self._now() + RELOAD_SECONDS
        while self._now() < deadline:
            try:
                if not asked:
                    await self._master.ask("reload")
                    asked = True
                live = await self._socket.read()
                if live.fingerprint == fingerprint:
                    self._telemetry.reloads.labels(result="ok").inc()
                    return live
            except HaproxyError:
                pass  # nobody answers between two processes; nor does the master of 2.6 while it reads
            await asyncio.sleep(_LOOK_SECONDS)
        self._telemetry.reloads.labels(result="failed").inc()
        logger.error("HAProxy did not take the new configuration; the former one serves on. Its log says why")
        return None

    def _map_paths(self) -> dict[str, str]:
        return {name: self._settings.path(name) for name in MAPS}

    def _options(self, server: Server) -> str:
        return server_options(self._settings, server)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _map_file(entries: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))
