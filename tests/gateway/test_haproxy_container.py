"""The program that runs HAProxy in a gateway pod, with a real HAProxy."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import aiohttp

from tests.gateway.conftest import MakeEngine
from tests.gateway.test_activator_behind_haproxy import holding, tell, until_held, usable
from tests.gateway.test_traffic import ask, until
from tests.support.real_haproxy import BUNDLED, Gateway, Model, pod, route
from tools.repository import ROOT

PROGRAM = ROOT / "images" / "gateway" / "haproxy.sh"


async def begin(gateway: Gateway) -> asyncio.subprocess.Process:
    """The container's program, beside a gateway's directory."""
    shell = shutil.which("dash") or "sh"
    with gateway.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            shell,
            str(PROGRAM),
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "PATH": f"{Path(BUNDLED).parent}:{os.environ['PATH']}",
                "NIGHTSHIFT_RUN_DIRECTORY": str(gateway.directory),
            },
            start_new_session=True,
        )


async def test_it_starts_with_the_configuration_and_told_to_end_it_lets_requests_end(engine: MakeEngine) -> None:
    a = await engine("a")
    async with Gateway(BUNDLED) as gateway:
        gateway.process = await begin(gateway)
        await asyncio.sleep(0.3)
        assert gateway.process.returncode is None, "it waits for its configuration"
        gateway.driver.write(gateway.decide(gateway.cluster(Model(route(), {"r1": [pod(a)]})), None))
        async with asyncio.timeout(20):
            while await gateway.driver.former() is None:  # noqa: ASYNC110 - the master takes a moment, and signals then
                await asyncio.sleep(0.05)
        a.gate.clear()
        async with gateway.session() as session:
            asking = asyncio.create_task(ask(session))
            await until(lambda: a.working == 1)
            gateway.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(1)
            assert gateway.process.returncode is None, "it does not end before its request has"
            a.gate.set()
            assert (await asking)[0] == 200
        async with asyncio.timeout(20):
            assert await gateway.process.wait() == 0


async def test_told_to_end_before_there_is_a_configuration_it_ends() -> None:
    async with Gateway(BUNDLED) as gateway:
        gateway.process = await begin(gateway)
        await asyncio.sleep(0.3)
        gateway.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await gateway.process.wait() == 0


async def test_where_haproxy_fails_so_does_the_container() -> None:
    async with Gateway(BUNDLED) as gateway:
        (gateway.directory / "haproxy.cfg").write_text("nonsense\n")
        gateway.process = await begin(gateway)
        async with asyncio.timeout(10):
            assert await gateway.process.wait() != 0


async def test_where_clients_have_all_connections_probes_and_requests_that_were_held_have_their_own(
    engine: MakeEngine,
) -> None:
    a = await engine("a")
    asleep, awake = Model(route(), {}), Model(route(), {"r1": [pod(a)]})
    async with Gateway(BUNDLED, max_connections=2) as gateway:
        await tell(gateway, asleep)
        async with holding(gateway) as activator, gateway.session() as session:
            asking = [asyncio.create_task(ask(session)) for _ in range(3)]
            await until_held(activator, 2)
            metrics = aiohttp.UnixConnector(str(gateway.directory / "metrics.sock"))
            async with aiohttp.ClientSession("http://gateway", connector=metrics) as probe:
                assert (await probe.get("/healthz")).status == 200
            await usable(gateway, awake)
            answers = await asyncio.wait_for(asyncio.gather(*asking), 30)
    assert [status for status, _ in answers] == [200, 200, 200]
