"""The activator as the pod runs it: a process of its own, in real time."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from nightshift.api.wake import SELECTOR
from nightshift.gateway.activator import SOCKET, STATE_FILE
from tests.gateway.standins import FakeHaproxy
from tests.gateway.states import KEY, entry, write
from tests.support.http_api import HttpApi
from tools.repository import ROOT

OTHER = "ml/other"
ACTIVATOR = (sys.executable, "-m", "nightshift.gateway", "activator")


class Process:
    """A running activator."""

    def __init__(self, directory: Path, api: HttpApi, child: "subprocess.Popen[bytes]", port: int) -> None:
        self.directory, self.api, self.child, self._port = directory, api, child, port

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self._port}{path}") as answer:
            return answer.status, await answer.text()

    async def ask(self, key: str) -> tuple[int, str]:
        connector = aiohttp.UnixConnector(str(self.directory / SOCKET), force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://bot.ml/v1/completions", data=b"{}", headers={"x-nightshift-route": key}) as answer,
        ):
            return answer.status, await answer.text()

    async def until(self, true: Any) -> None:
        async with asyncio.timeout(60):
            while not await true():
                assert self.child.poll() is None
                await asyncio.sleep(0.02)

    async def ready(self) -> bool:
        try:
            return (await self.get("/readyz"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def held(self) -> bool:
        return re.search(r"nightshift_gateway_held\{.*\} 1\.0", (await self.get("/metrics"))[1]) is not None

    async def wanted(self) -> bool:
        leases = self.api.call(lambda: self.api.server.listed("coordination.k8s.io/v1", "Lease", SELECTOR))
        return [lease["spec"]["holderIdentity"] for lease in leases] == ["gateway-6c9f-x7k2p"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def kubeconfig(path: Path, url: str) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    return path


@asynccontextmanager
async def running(directory: Path, command: tuple[str, ...] = ACTIVATOR) -> AsyncIterator[Process]:
    write(directory / STATE_FILE, entry(KEY), entry(OTHER))
    with HttpApi() as api:
        port = free_port()
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("KUBERNETES_")},
            "KUBECONFIG": str(kubeconfig(directory / "kubeconfig", api.url)),
            "PYTHONPATH": str(ROOT / "operator"),
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "NIGHTSHIFT_RUN_DIRECTORY": str(directory),
            "POD_NAME": "gateway-6c9f-x7k2p",
            "POD_NAMESPACE": "gateways",
            "NIGHTSHIFT_ACTIVATOR_PORT": str(port),
        }
        child = await asyncio.to_thread(subprocess.Popen, command, env=environment, start_new_session=True)
        process = Process(directory, api, child, port)
        try:
            await process.until(process.ready)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await asyncio.to_thread(child.wait)


async def test_it_holds_wakes_releases_and_ends_when_told(tmp_path: Path) -> None:
    haproxy = FakeHaproxy(tmp_path)
    await haproxy.start()
    async with running(tmp_path) as process:
        asking = asyncio.create_task(process.ask(KEY))
        await process.until(process.held)
        await process.until(process.wanted)
        write(tmp_path / STATE_FILE, entry(KEY, usable=1), entry(OTHER))
        assert (await asking)[0] == 200
        waiting = asyncio.create_task(process.ask(OTHER))
        await process.until(process.held)
        process.child.send_signal(signal.SIGTERM)
        status, text = await waiting
        assert status == 503
        assert "gateway_stopping" in text
        assert await asyncio.to_thread(process.child.wait, 20) == 0
    await haproxy.stop()


async def test_when_it_is_killed_clients_see_a_connection_that_ends_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as process:
        asking = asyncio.create_task(process.ask(KEY))
        await process.until(process.held)
        process.child.kill()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            async with asyncio.timeout(10):
                await asking


def test_a_process_that_does_not_exist_is_not_started() -> None:
    command = [sys.executable, "-m", "nightshift.gateway", "accelerator"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "operator", check=False)
    assert found.returncode == 2
    assert "agent|activator" in found.stderr
