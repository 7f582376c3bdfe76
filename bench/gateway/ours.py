"""A gateway pod's processes from the checkout: HAProxy on the files that the agent writes, and the agent."""

import re
import socket
import time
from pathlib import Path

from bench.gateway.cluster import Cluster
from bench.gateway.processes import READY_SECONDS, Processes, environment, get
from nightshift.adapters.haproxy import ServerRow, parse_servers
from nightshift.core.gateway.settings import CONFIG, MASTER_SOCKET, ROUTES_MAP, RUNTIME_SOCKET
from tools.repository import ROOT

PROGRAM = ROOT / "images" / "gateway" / "haproxy.sh"
GATEWAY_PORT, AGENT_PORT = 8000, 8081
HAPROXY, AGENT = "gateway's haproxy", "gateway's agent"


class GatewayPod:
    """The processes, once started.

    Args:
        processes: Whose they are.
        run: The directory that they share; its path has to be short, for sockets lie in it.
        binary: HAProxy.
        threads: Of HAProxy.
    """

    def __init__(self, processes: Processes, run: Path, binary: str, threads: int) -> None:
        self._processes = processes
        self._run = run
        self._binary = binary
        self._threads = threads

    def start(self, cluster: Cluster) -> None:
        """Start the agent, HAProxy when its files are there, and wait until it has been given its routes."""
        self._processes.python(
            AGENT,
            "nightshift.gateway",
            "agent",
            KUBECONFIG=str(cluster.kubeconfig(self._run)),
            NIGHTSHIFT_RUN_DIRECTORY=str(self._run),
            NIGHTSHIFT_GATEWAY_THREADS=str(self._threads),
            POD_NAMESPACE="gw",
        )
        deadline = time.monotonic() + READY_SECONDS
        while not (self._run / CONFIG).exists():
            self._processes.check()
            if time.monotonic() > deadline:
                raise TimeoutError("the agent writes no configuration for HAProxy")
            time.sleep(0.05)
        config, master = str(self._run / CONFIG), str(self._run / MASTER_SOCKET)
        memory = dict(re.findall(r"(MALLOC_\w+)=(\d+)", PROGRAM.read_text()))  # as in the pod
        self._processes.start(HAPROXY, [self._binary, "-W", "-db", "-S", master, "-f", config], environment(**memory))
        self._processes.wait("the agent", AGENT_PORT, "/readyz")

    def haproxy_pids(self) -> list[int]:
        """HAProxy's processes."""
        return self._processes.pids(HAPROXY)

    def agent_pids(self) -> list[int]:
        """The agent's process."""
        return self._processes.pids(AGENT)

    def slot(self, key: str) -> str:
        """The slot of a deployment's first revision."""
        for line in (self._run / ROUTES_MAP).read_text().splitlines():
            name, _, props = line.partition(" ")
            if name == key:
                return props.split("|")[7]
        raise KeyError(key)

    def missed_lines(self) -> int:
        """Lines of HAProxy's log that the agent did not take in time."""
        told = get(AGENT_PORT, "/metrics")
        found = re.search(r'^nightshift_gateway_log_lines_total{result="dropped"} (\S+)$', told, re.MULTILINE)
        assert found is not None, told
        return int(float(found[1]))

    def servers(self, slot: str) -> dict[str, ServerRow]:
        """The servers of a slot in the running process, by name."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(self._run / RUNTIME_SOCKET))
            connection.sendall(f"show servers state {slot}\n".encode())
            answer = b""
            while data := connection.recv(65536):
                answer += data
        return {row.name: row for row in parse_servers(answer.decode())}
