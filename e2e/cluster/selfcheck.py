"""``python -m e2e.cluster selfcheck``: shows on this machine that the local cluster does what it promises.

It kills the cluster's processes and ends with ``down``, so nothing of value may run on it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from . import images, objects, procfs, remains
from .processes import past_proxies, read_record, records, run, signal_process, wait_until
from .settings import ClusterError, Settings
from .steps import Steps

NAMESPACE = "selfcheck"
ROOT = Path(__file__).parents[2]
KILLED = ("kube-apiserver", "etcd", "containerd", "kubelet", "kube-proxy", "coredns", "registry")
INTERRUPTIONS = (0.5, 2.0, 4.0, 6.0)


def run_all(settings: Settings, steps: Steps) -> None:
    """Run every check in order.

    Raises:
        ClusterError: one of them does not hold.
    """
    checks: list[tuple[str, Callable[[Settings], None]]] = [
        ("up from nothing", _from_nothing),
        ("restricted pods from the registry", _pods),
        ("a Service from the host", _from_host),
        ("a Service by name from a pod, and exec", _from_pod),
        ("logs", _logs),
        ("port-forward", _port_forward),
        ("a second up changes nothing", _again),
        ("two fake GPUs, kept over a restart of the kubelet", _gpus),
        *((f"up after kill -9 of {name}", partial(_after_kill, name=name)) for name in KILLED),
        ("up after kill -9 of everything", _after_kill_of_all),
        ("up after kill -9 in the middle of up", _interrupted),
        ("down leaves nothing", _leaves_nothing),
    ]
    for name, check in checks:
        with steps.step(name):
            check(settings)


def _command(settings: Settings, *arguments: str) -> None:
    """Run the package's command in a process of its own, as a user does."""
    done = _start(settings, *arguments)
    said, _ = done.communicate()
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(arguments)}` failed:\n{said}", "see above")


def _start(settings: Settings, *arguments: str) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return subprocess.Popen(
        [sys.executable, "-m", "e2e.cluster", *arguments],
        cwd=ROOT,
        env=environment | {"NIGHTSHIFT_HOME": str(settings.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _kubectl(settings: Settings, *arguments: str) -> str:
    return objects.kubectl(settings, ["--namespace", NAMESPACE, *arguments])


def manifests(image: str) -> list[objects.Manifest]:
    """Two restricted pods behind a Service."""
    container = {
        "name": "web",
        "image": image,
        "args": ["serve", ":8080"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod_security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    labels = {"app": "web"}
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"securityContext": pod_security, "containers": [container]},
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]


def _from_nothing(settings: Settings) -> None:
    _command(settings, "down")
    _command(settings, "up")


def _pods(settings: Settings) -> None:
    objects.apply(settings, manifests(images.reference(settings)))
    _kubectl(settings, "wait", "deployment/web", "--for=condition=Available", "--timeout=60s")


def _read(url: str) -> str:
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=5) as response:
            return str(response.read().decode())
    except OSError as error:
        return str(error)


def _from_host(settings: Settings) -> None:
    address = _kubectl(settings, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    wait_until(f"http://{address} did not answer", lambda: "hello from web-" in _read(f"http://{address}"), 10)


def _a_pod(settings: Settings) -> str:
    return _kubectl(settings, "get", "pods", "-l", "app=web", "-o", "name").split()[0]


def _from_pod(settings: Settings) -> None:
    for host in ("web", f"web.{NAMESPACE}.svc.cluster.local"):
        for _ in range(5):  # both pods behind the Service, the asking one among them
            said = _kubectl(settings, "exec", _a_pod(settings), "--", "/pod", "get", f"http://{host}/")
            if "hello from web-" not in said:
                raise ClusterError(f"{host} answered {said!r}", "look at coredns.log and kube-proxy.log")


def _logs(settings: Settings) -> None:
    if "serving on :8080 as user 65532" not in _kubectl(settings, "logs", _a_pod(settings)):
        raise ClusterError("the log of a pod does not hold what it wrote", "look at kubelet.log")


def _port_forward(settings: Settings) -> None:
    argv = [str(settings.bin / "kubectl"), f"--kubeconfig={settings.kubeconfig}", "-n", NAMESPACE]
    argv += ["port-forward", "service/web", ":80"]
    direct = os.environ | past_proxies(os.environ)
    forward = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=direct)
    try:
        line = forward.stdout.readline() if forward.stdout else ""
        port = line.split(" -> ")[0].rsplit(":", 1)[-1]
        wait_until("the forwarded port did not answer", lambda: "hello" in _read(f"http://127.0.0.1:{port}/"), 10)
    finally:
        forward.kill()
        forward.communicate()


def _pids(settings: Settings) -> dict[str, int]:
    return {record.name: record.pid for record in records(settings)}


def _again(settings: Settings) -> None:
    before = _pids(settings)
    _command(settings, "up")
    if _pids(settings) != before:
        raise ClusterError("a second up restarted something", "compare the fingerprints in run/pids")


def _gpus(settings: Settings) -> None:
    _command(settings, "gpus", "2")
    _after_kill(settings, "kubelet")
    node = json.loads(objects.kubectl(settings, ["get", "node", "nightshift", "-o", "json"]))
    if node["status"]["allocatable"].get(objects.GPU_RESOURCE) != "2":
        raise ClusterError("the node lost its fake GPUs", "look at kubelet.log")


def _after_kill(settings: Settings, name: str) -> None:
    record = read_record(settings, name)
    seen = procfs.read_process(record.pid) if record else None
    if seen is None or not signal_process(seen, signal.SIGKILL):
        raise ClusterError(f"{name} did not run", "look at its log")
    _command(settings, "up")
    _from_host(settings)


def _after_kill_of_all(settings: Settings) -> None:
    for seen in remains.marked(settings.home):
        signal_process(seen, signal.SIGKILL)
    _command(settings, "up")
    _from_host(settings)
    _from_pod(settings)


def _interrupted(settings: Settings) -> None:
    for seconds in INTERRUPTIONS:
        _command(settings, "down")
        command = _start(settings, "up")
        time.sleep(seconds)
        command.kill()
        command.communicate()
        _command(settings, "up")
    _pods(settings)
    _from_host(settings)


def _leaves_nothing(settings: Settings) -> None:
    _command(settings, "down")
    left = remains.find(settings).lines()
    if left:
        raise ClusterError("down left behind:\n" + "\n".join(left), "run `down` again and report it")
    namespaces = run(["ip", "netns", "list"], check=False).stdout
    if "cni-" in namespaces:
        raise ClusterError(f"network namespaces are left: {namespaces}", "ip netns delete NAME")
