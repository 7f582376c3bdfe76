"""``up`` and ``down``: the steps of a cluster's life in their order."""

import datetime
import json
import shutil
from pathlib import Path

from . import builds, configs, facts, fakes, host, images, objects, packages, pki, preflight, procfs, remains
from .components import Component, answers, components, ctr
from .processes import is_running, log_path, read_record, run, start, stop, tail, wait_until, write_atomically
from .settings import API_SERVER, NODE_NAME, ClusterError, Settings
from .steps import Steps
from .tools import CLUSTER_TOOLS, TOOLS

READY_SECONDS = 90.0
SETTLE_SECONDS = 15.0
FIRST = ("registry", "etcd", "containerd")
AFTER_API = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "kubelet")


def up(settings: Settings, steps: Steps) -> None:
    """Bring the cluster up, or what is missing of it.

    Raises:
        ClusterError: the machine cannot run it, or a step failed.
    """
    with remains.exclusive(settings):
        seen = _check(settings, steps)
        _clear_remains(settings, steps)
        with steps.step("Debian packages") as step:
            step.note = packages.install(settings)
        _binaries(settings, steps, seen)
        _prepare(settings, steps)
        ready = components(settings)
        for name in FIRST:
            with steps.step(name) as step:
                step.note = ensure(settings, ready[name])
        with steps.step("pod image") as step:
            step.note = images.push(settings)
        with steps.step("kube-apiserver") as step:
            step.note = ensure(settings, ready["kube-apiserver"])
        with steps.step("cluster objects"):
            _objects(settings)
        launched = {name: launch(settings, ready[name]) for name in AFTER_API}
        for name in AFTER_API:
            with steps.step(name) as step:
                step.note = launched[name]
                await_ready(settings, ready[name])
        _node(settings, steps)
        steps.write(settings.timings, "up")


def _check(settings: Settings, steps: Steps) -> facts.Facts:
    with steps.step("check the machine"):
        return preflight.check(settings)


def _clear_remains(settings: Settings, steps: Steps) -> None:
    with steps.step("clear remains") as step:
        others = remains.other_homes(settings)
        for other in others:
            remains.clear(other)
            host.restore(other)
        ended = remains.clear_strays(settings)
        done = [f"of {other.home}" for other in others] + ([f"{ended} stray processes"] if ended else [])
        step.note = ", ".join(done) or "none"


def _binaries(settings: Settings, steps: Steps, seen: facts.Facts) -> None:
    cached = [tool for tool in CLUSTER_TOOLS if tool.name not in seen.to_build]
    if cached:
        with steps.step("binaries") as step:
            step.note = f"{len(cached)} of {len(CLUSTER_TOOLS)} cached"
    for name in seen.to_build:
        with steps.step(f"build {name} {TOOLS[name].version}") as step:
            step.note = builds.build(settings, TOOLS[name])
    with steps.step("kubectl and helm") as step:
        step.note = builds.clients(settings)


def _prepare(settings: Settings, steps: Steps) -> None:
    settings.run.mkdir(parents=True, exist_ok=True)
    with steps.step("network"):
        host.remember(settings)
        host.make_cgroups(settings)
        host.raise_network()
    with steps.step("certificates") as step:
        step.note = pki.ensure(settings, datetime.datetime.now(datetime.UTC))
    with steps.step("configuration"):
        resolv = Path("/etc/resolv.conf")
        text = resolv.read_text() if resolv.exists() else ""
        for path, content in configs.files(settings, images.reference(settings), text).items():
            if not path.exists() or path.read_text() != content:
                write_atomically(path, content, mode=0o600)
        objects.make_scratch(settings)


def launch(settings: Settings, component: Component) -> str:
    """Start a component unless the right one runs."""
    record, fingerprint = read_record(settings, component.name), component.fingerprint()
    if record is not None and is_running(record) and record.fingerprint == fingerprint:
        return "running"
    word = "started" if record is None else "restarted"
    stop(settings, component.name, component.grace_seconds)
    start(settings, component.name, component.argv, fingerprint, dict(component.environment))
    return word


def await_ready(settings: Settings, component: Component, seconds: float = READY_SECONDS) -> None:
    """Wait for a launched component.

    Raises:
        ClusterError: it ended, or was not ready in time; the remedy shows the end of its log.
    """
    log = log_path(settings, component.name)

    def ready_or_dead() -> bool:
        record = read_record(settings, component.name)
        if record is None or not is_running(record):
            raise ClusterError(f"{component.name} ended", f"its log: {log}\n{tail(log)}")
        return component.is_ready(settings.pki)

    wait_until(f"{component.name} was not ready", ready_or_dead, seconds, log)


def ensure(settings: Settings, component: Component) -> str:
    """Launch and wait; one that runs but does not answer is started anew."""
    word = launch(settings, component)
    if word == "running":
        try:
            await_ready(settings, component, SETTLE_SECONDS)
        except ClusterError:
            stop(settings, component.name, component.grace_seconds)
            word = launch(settings, component)
    await_ready(settings, component)
    return word


def _objects(settings: Settings) -> None:
    """Apply the base objects; the API server makes the namespace kube-system only some time after it is ready."""

    def namespace_there() -> bool:
        arguments = ["get", "namespace", "kube-system", "--ignore-not-found", "-o", "name"]
        return bool(objects.kubectl(settings, arguments).strip())

    wait_until("the namespace kube-system did not appear", namespace_there, READY_SECONDS)
    objects.apply(settings, objects.base_objects(settings))
    objects.recycle(settings)


def _node(settings: Settings, steps: Steps) -> None:
    started = int((settings.pids / "kubelet.json").stat().st_mtime)

    def reported() -> bool:
        listing = json.loads(objects.kubectl(settings, ["get", "nodes", "-o", "json"]))
        nodes = [node for node in listing["items"] if node["metadata"]["name"] == NODE_NAME]
        since = objects.node_ready_since(nodes[0]) if nodes else None
        return since is not None and datetime.datetime.fromisoformat(since).timestamp() >= started

    with steps.step("node ready"):
        wait_until("the node did not become ready", reported, READY_SECONDS, log_path(settings, "kubelet"))
    with steps.step("pods"):
        wait_until("pods still show containers that are gone", lambda: _pods_are_true(settings), READY_SECONDS)
    if read_record(settings, "kwok") is not None:
        with steps.step("kwok") as step:
            step.note = ensure(settings, fakes.kwok(settings))
    count = recorded_gpus(settings)
    if count is not None:
        with steps.step(f"{count} fake GPUs"):
            objects.set_gpus(settings, count)


def _pods_are_true(settings: Settings) -> bool:
    """Whether every container that the API shows as running does run: after a crash the kubelet needs a moment."""
    listing = run([*ctr(settings), "tasks", "list"]).stdout.splitlines()[1:]
    alive = {line.split()[0] for line in listing if line.endswith("RUNNING")}
    pods = json.loads(objects.kubectl(settings, ["get", "pods", "--all-namespaces", "-o", "json"]))
    return objects.running_containers(pods) <= alive


def recorded_gpus(settings: Settings) -> int | None:
    """The number of fake GPUs that was asked for; the kubelet forgets it when it restarts."""
    path = settings.run / "gpus"
    return int(path.read_text()) if path.exists() else None


def set_gpus(settings: Settings, count: int) -> None:
    """Give the node fake GPUs and remember the number for the next ``up``."""
    objects.set_gpus(settings, count)
    write_atomically(settings.run / "gpus", str(count))


def start_kwok(settings: Settings, steps: Steps, nodes: int) -> None:
    """Build and start KWOK, and make sure that it has ``nodes`` nodes."""
    with remains.exclusive(settings):
        with steps.step(f"build kwok {TOOLS['kwok'].version}") as step:
            step.note = builds.build(settings, TOOLS["kwok"])
        with steps.step("kwok") as step:
            fakes.write_stages(settings)
            fakes.authorise(settings)
            step.note = ensure(settings, fakes.kwok(settings))
        with steps.step(f"{nodes} fake nodes"):
            fakes.add_nodes(settings, nodes)


def down(settings: Settings, steps: Steps) -> None:
    """Take the cluster down: nothing of it stays on the machine but cached files and logs."""
    with remains.exclusive(settings):
        ready = components(settings)
        with steps.step("stop the control plane"):
            for name in ("kwok", "kubelet", "kube-proxy", "coredns", "kube-scheduler", "kube-controller-manager"):
                stop(settings, name)
            stop(settings, "kube-apiserver", ready["kube-apiserver"].grace_seconds)
            stop(settings, "etcd")
        with steps.step("end the pods"):
            _end_pods(settings)
        with steps.step("stop containerd and the registry"):
            stop(settings, "containerd")
            stop(settings, "registry")
        with steps.step("clear processes, mounts, links, rules"):
            remains.clear(settings)
            host.restore(settings)
        with steps.step("remove the cluster's data"):
            _remove(settings, [settings.run, settings.volumes])


def _end_pods(settings: Settings) -> None:
    """End all pod processes, and let containerd forget the containers while it still runs."""
    containerd = read_record(settings, "containerd")
    alive = containerd is not None and is_running(containerd)
    remains.end_pods(settings)
    if not alive:
        return
    command = ctr(settings)
    names = run([*command, "containers", "list", "--quiet"], check=False).stdout.split()
    for name in names:
        run([*command, "tasks", "delete", "--force", name], check=False)
    if names:
        run([*command, "containers", "delete", *names], check=False)


def _remove(settings: Settings, directories: list[Path]) -> None:
    """Delete directories, never through a mount: a volume or an image build may have host directories below."""
    left = [path for directory in directories for path in procfs.mounts_below(procfs.read_mounts(), directory)]
    if left:
        raise ClusterError(f"still mounted: {', '.join(left)}", "unmount them by hand, nothing was deleted")
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def purge(settings: Settings, steps: Steps) -> None:
    """``down``, and remove the home with everything in it."""
    down(settings, steps)
    with remains.exclusive(settings), steps.step(f"remove {settings.home}"):
        for path in procfs.mounts_below(procfs.read_mounts(), settings.home):
            run(["umount", "--lazy", path], check=False)
        _remove(settings, [settings.home])


def status(settings: Settings) -> list[str]:
    """One line per component."""
    lines = []
    for name in [*components(settings), "kwok"]:
        record = read_record(settings, name)
        if record is None and name == "kwok":
            continue
        running = record is not None and is_running(record)
        lines.append(f"{name:24} {f'running, pid {record.pid}' if record and running else 'stopped'}")
    answer = (settings.pki / "ca.crt").exists() and answers(f"{API_SERVER}/readyz", settings.pki)
    return [*lines, f"{'API':24} {'answers' if answer else 'does not answer'}"]
