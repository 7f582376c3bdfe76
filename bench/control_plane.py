"""A control plane of a benchmark's own: etcd, API server, controllers, scheduler, KWOK, and nothing else.

It lives in a network and a process namespace of its own, so it meets neither the local cluster nor the machine, needs
no lock, and ends with the benchmark, however that ends.
"""

import contextlib
import datetime
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench import namespaces
from e2e.cluster import ClusterAccess, Settings, builds, configs, fakes, images, pki
from e2e.cluster.components import Component, components
from e2e.cluster.processes import environment, tail, write_atomically
from e2e.cluster.remains import exclusive
from e2e.cluster.settings import MARK, NODE_ADDRESS, REGISTRY
from e2e.cluster.tools import TOOLS
from e2e.support.client import Client, KubectlError, eventually

PARTS = ("registry", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
API_CLIENT = ("--kube-api-qps=500", "--kube-api-burst=1000")
"""The controllers' and the scheduler's own limits: the defaults (20 and 50 requests/s) would be what is measured."""

READY_SECONDS = 60.0
ENGINE_TAG = "v0.32.0"


def enter() -> None:
    """Begin this program anew in namespaces of its own, with everything built that it needs there."""
    # From sources, which are out of reach where there is no network.
    namespaces.enter(lambda: build(Settings.from_environment()))


class ControlPlane:
    """The processes, and how to reach them."""

    def __init__(self, directory: Path) -> None:
        self.settings = Settings(directory)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        tools = self.settings.bin
        self.client = Client(
            ClusterAccess(
                kubeconfig=str(self.settings.kubeconfig),
                kubectl=tools / "kubectl",
                helm=tools / "helm",
                registry=REGISTRY,
                image_prefix=f"{REGISTRY}/nightshift",
                plain_http=True,
                local=True,
                home=directory,
            )
        )

    @property
    def engine_repository(self) -> str:
        """An image repository in which there is an image for the version in use."""
        return f"{REGISTRY}/{images.REPOSITORY}"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log."""
        return self.settings.run / "audit.log"

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def start(self) -> None:
        """Write configuration and certificates, and start everything."""
        for command in ("link set lo up", f"address add {NODE_ADDRESS}/32 dev lo"):
            subprocess.run(["ip", *command.split()], check=True)
        self.settings.run.mkdir(parents=True)
        pki.ensure(self.settings, datetime.datetime.now(datetime.UTC))
        files = configs.files(self.settings, images.reference(self.settings), "")
        for path, content in files.items():
            write_atomically(path, content, mode=0o600)
        found = components(self.settings)
        for name in PARTS:
            limits = API_CLIENT if name in ("kube-controller-manager", "kube-scheduler") else ()
            self._start(found[name], limits)
        images.push(self.settings)
        _tag_engine(self.engine_repository)
        eventually("the API server has its first objects", self._answers, READY_SECONDS)

    def start_kwok(self, nodes: int) -> None:
        """Start KWOK with so many nodes."""
        fakes.write_stages(self.settings)
        fakes.authorise(self.settings)
        self._start(fakes.kwok(self.settings), ())
        fakes.add_nodes(self.settings, nodes)

    def stop(self) -> None:
        """End everything, the last started first."""
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()

    def _start(self, component: Component, more: tuple[str, ...]) -> None:
        log = self.settings.logs / f"{component.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        variables = environment(self.settings, dict(component.environment))
        del variables[MARK]  # no `up` of a cluster beside us shall take these for remains
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*component.argv, *more], stdout=output, stderr=output, env=variables, start_new_session=True
            )
        self._processes[component.name] = process
        deadline = time.monotonic() + READY_SECONDS
        while not component.is_ready(self.settings.pki):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{component.name} did not become ready\n{tail(log)}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return "default" in self.client.kubectl("get", "serviceaccounts", "--namespace", "default")
        except KubectlError:
            return False


def _tag_engine(repository: str) -> None:
    """Give the image of the registry, which nothing here runs, the tag of the engine's version."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    base = f"http://{repository.replace('/', '/v2/', 1)}"
    with opener.open(f"{base}/tags/list", timeout=10) as answer:
        tag = json.load(answer)["tags"][0]
    headers = {"Accept": images.MANIFEST_TYPE, "Content-Type": images.MANIFEST_TYPE}
    with opener.open(urllib.request.Request(f"{base}/manifests/{tag}", headers=headers), timeout=10) as answer:
        manifest = answer.read()
    request = urllib.request.Request(f"{base}/manifests/{ENGINE_TAG}", data=manifest, method="PUT", headers=headers)
    opener.open(request, timeout=10).close()


def build(home: Settings) -> None:
    """Build what is missing of the programs, where the local cluster keeps them."""
    needed = [TOOLS[name] for name in (*PARTS, "pod", "kwok")]
    clients = all((home.bin / name).exists() for name in builds.CLIENTS)
    if clients and not builds.to_build(home, needed):
        return
    with exclusive(home):
        for tool in needed:
            builds.build(home, tool)
        builds.clients(home)


@contextlib.contextmanager
def control_plane(nodes: int) -> Iterator[ControlPlane]:
    """A running control plane with nodes that KWOK plays; nothing of it is left afterwards."""
    home = Settings.from_environment()
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-", dir=home.home) as name:
        directory = Path(name)
        (directory / "bin").symlink_to(home.bin)
        plane = ControlPlane(directory)
        try:
            plane.start()
            plane.start_kwok(nodes)
            yield plane
        finally:
            plane.stop()
