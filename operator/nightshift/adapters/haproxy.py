"""HAProxy's runtime socket: commands in, parsed answers out. HAProxy 2.6 and 2.8, management guide chapter 9.3.

Every command has a connection of its own: the end of the answer is the end of the connection, whatever stands in it.
"""

import asyncio
import re
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from nightshift.core.gateway.settings import MAPS
from nightshift.core.gateway.slots import parse_slot
from nightshift.core.gateway.state import Live, LiveServer, LiveSlot

COMMAND_SECONDS = 5.0
COMMAND_LIMIT_BYTES = 60_000
"""HAProxy reads a command into one buffer, of 65536 bytes here."""
ANSWER_LIMIT_BYTES = 32 * 1024 * 1024
_FORCED_MAINTENANCE = 0x01 | 0x20
"""Bits of srv_admin_state: put into maintenance by command, or by the configuration."""
_RUNNING = 2
"""srv_op_state of a server that is up; 0 is down, 1 starts slowly, 3 stops."""
_STARTING = 1
_BACKENDS_AND_SERVERS = "6"
_BACKEND = "BACKEND"
_SERVER_COLUMNS = ("be_name", "srv_name", "srv_addr", "srv_port", "srv_uweight", "srv_admin_state", "srv_op_state")
_STAT_COLUMNS = ("pxname", "svname", "qcur", "qmax", "scur", "smax", "slim", "stot")
"""Those with which `show stat` begins; more are added behind them, never between (management guide, 9.1)."""
_STAT_LAST = "lastsess"
_STAT_LINE = re.compile(r"^([^,\n]*),([^,\n]*),(\d*),\d*,(\d*),\d*,(\d*),(\d*),(.*)$", re.MULTILINE)
"""One match for all lines: hundreds of a hundred columns are read each second."""
_DESCRIPTION = "nightshift-"


class HaproxyError(Exception):
    """HAProxy did not answer, or with more than it may, or refused a command."""


@dataclass(frozen=True)
class ServerRow:
    """A line of `show servers state`."""

    backend: str
    name: str
    address: str
    port: int
    weight: int
    maintenance: bool
    up: bool


class Socket:
    """HAProxy's runtime or master socket.

    Args:
        path: The UNIX socket.
        seconds: Within which a command is answered, to the end.
    """

    def __init__(self, path: Path, seconds: float = COMMAND_SECONDS) -> None:
        self._path = path
        self._seconds = seconds

    async def ask(self, command: str) -> str:
        """Give one command and return the whole answer.

        Raises:
            HaproxyError: No answer in time, or one beyond the limit; or the command is longer than HAProxy reads.
        """
        data = command.encode()
        if len(data) > COMMAND_LIMIT_BYTES or b"\n" in data:
            raise HaproxyError(f"a command of {len(data)} bytes cannot be sent: {command[:80]!r}")
        try:
            async with asyncio.timeout(self._seconds):
                return (await self._exchange(data)).decode(errors="replace")
        except (OSError, TimeoutError) as error:
            raise HaproxyError(f"{self._path.name} did not answer {command[:80]!r}: {error!r}") from error

    async def _exchange(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(data + b"\n")
            writer.write_eof()  # the master's socket waits for further commands otherwise
            await writer.drain()
            answer = bytearray()
            while chunk := await reader.read(65536):
                answer += chunk
                if len(answer) > ANSWER_LIMIT_BYTES:
                    raise HaproxyError(f"the answer is larger than {ANSWER_LIMIT_BYTES} bytes")
            return bytes(answer)
        finally:
            writer.close()

    async def read(self) -> Live:
        """The state of the process: what it has read, its slots with their servers, its maps."""
        info = parse_info(await self.ask("show info"))
        slots = await self.read_slots()
        loaded = parse_map_list(await self.ask("show map"))
        maps = {}
        for name in MAPS:
            if path := next((path for path in loaded if path.endswith(f"/{name}")), None):
                maps[name] = parse_map(await self.ask(f"show map {path}"))
        description = info.get("description", "")
        return Live(
            fingerprint=description.removeprefix(_DESCRIPTION) if description.startswith(_DESCRIPTION) else "",
            slots=slots,
            maps=maps,
            process=int(info.get("Pid", 0)),
        )

    async def read_slots(self) -> dict[str, LiveSlot]:
        """The slots with their servers."""
        rows = parse_servers(await self.ask("show servers state"))
        return parse_stat(await self.ask(f"show stat -1 {_BACKENDS_AND_SERVERS} -1"), rows)

    async def read_former(self) -> list[dict[str, LiveSlot]]:
        """The slots of processes that a reload replaced and that are still there for the requests that they have.

        By the master's socket, and without their servers.

        Raises:
            HaproxyError: The master does not answer, or one of them does not. One that ended meanwhile is left out.
        """
        found = []
        for process in parse_former(await self.ask("show proc")):
            text = await self.ask(f"@!{process} show stat -1 {_BACKENDS_AND_SERVERS} -1")
            if text.startswith("# pxname"):
                found.append(parse_stat(text, []))
            elif process in parse_former(await self.ask("show proc")):
                raise HaproxyError(
                    f"process {process}, which a reload replaced, does not say what it has: {text[:80]!r}"
                )
        return found

    async def process(self) -> int:
        """Process number of the process that answers."""
        return int(parse_info(await self.ask("show info")).get("Pid", 0))


def parse_info(text: str) -> dict[str, str]:
    """`show info`: names and values."""
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in text.splitlines()) if colon}


def parse_servers(text: str) -> list[ServerRow]:
    """`show servers state`, by the column names in its second line.

    Raises:
        HaproxyError: It is no such table.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not lines[1].startswith("# "):
        raise HaproxyError(f"no table of servers: {text[:80]!r}")
    columns = lines[1][2:].split()
    if not set(_SERVER_COLUMNS) <= set(columns):
        raise HaproxyError(f"no table of servers: {lines[1][:200]!r}")
    cells = itemgetter(*(columns.index(name) for name in _SERVER_COLUMNS))
    rows = []
    for line in lines[2:]:
        try:
            rows.append(_server_row(*cells(line.split())))
        except (IndexError, ValueError) as error:
            raise HaproxyError(f"an unknown line of a server: {line[:200]!r}") from error
    return rows


def _server_row(
    backend: str, name: str, address: str, port: str, weight: str, administered: str, operates: str
) -> ServerRow:
    return ServerRow(
        backend=backend,
        name=name,
        address=address,
        port=int(port),
        weight=int(weight),
        maintenance=bool(int(administered) & _FORCED_MAINTENANCE),
        up=int(operates) in (_RUNNING, _STARTING),
    )


def parse_stat(text: str, rows: list[ServerRow]) -> dict[str, LiveSlot]:
    """`show stat` of backends and servers, joined with `show servers state`: all slots, empty ones included.

    Raises:
        HaproxyError: It is no such table.
    """
    header, _, table = text.removeprefix("# ").partition("\n")
    names = header.split(",")
    if tuple(names[: len(_STAT_COLUMNS)]) != _STAT_COLUMNS or _STAT_LAST not in names:
        raise HaproxyError(f"no table of statistics: {text[:80]!r}")
    last = names.index(_STAT_LAST) - len(_STAT_COLUMNS)
    at_servers: dict[tuple[str, str], tuple[int, int, int]] = {}
    backends: dict[str, tuple[int, int, int, int]] = {}
    for proxy, server, waiting, current, limit, total, rest in _STAT_LINE.findall(table):
        queued, working = int(waiting or 0), int(current or 0)
        if server == _BACKEND:
            ever = int(total or 0)
            backends[proxy] = working, queued, ever, _cell(rest, last) if ever else -1
        else:
            at_servers[proxy, server] = working, queued, int(limit or 0)
    servers: dict[str, dict[str, LiveServer]] = {}
    for row in rows:
        working, queued, cap = at_servers.get((row.backend, row.name), (0, 0, 0))
        servers.setdefault(row.backend, {})[row.name] = LiveServer(
            row.name, row.address, row.port, row.weight, cap, row.maintenance, row.up, working + queued, queued
        )
    behind: dict[str, int] = {}
    for (name, _), (_, queued, _) in at_servers.items():
        if queued:
            behind[name] = behind.get(name, 0) + queued
    return {
        name: LiveSlot(servers.get(name, {}), working, queued + behind.get(name, 0), ever, None if ago < 0 else ago)
        for name, (working, queued, ever, ago) in backends.items()
        if parse_slot(name)
    }


def _cell(line: str, index: int) -> int:
    """A number of a line; -1 where nothing stands there."""
    found = line.split(",", index + 1)
    return int(found[index] or -1) if len(found) > index else -1


def parse_former(text: str) -> list[int]:
    """`show proc` of the master: process numbers of workers that a reload replaced and that have not ended.

    Raises:
        HaproxyError: It is no such table.
    """
    if "# workers" not in text:
        raise HaproxyError(f"no table of processes: {text[:80]!r}")
    former = text.partition("# old workers")[2].partition("# programs")[0]
    return [int(line.split()[0]) for line in former.splitlines() if line[:1].isdigit()]


def parse_map_list(text: str) -> list[str]:
    """`show map` without an argument: the files of all maps."""
    return [line.partition("(")[2].partition(")")[0] for line in text.splitlines() if "(" in line and line[0] != "#"]


def parse_map(text: str) -> dict[str, str]:
    """`show map FILE`: keys and values. Of a key that is in it twice, the one that is found."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        reference, _, rest = line.partition(" ")
        key, _, value = rest.partition(" ")
        if reference.startswith("0x") and key:
            found.setdefault(key, value)
    return found
