"""What a story can do: apply, wait, ask, watch, and tell what happens."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar

from e2e.images import image
from e2e.support.asking import curl
from e2e.support.audit import AuditLog
from e2e.support.client import Client, KubectlError, Object, eventually
from e2e.support.install import GATEWAY, GATEWAY_NAMESPACE, GATEWAY_PORT, SYSTEM, restricted_namespace

T = TypeVar("T")

CPU_ARGS = ["--max-model-len=512", "--enforce-eager", "--max-num-seqs=16", "--kv-cache-memory-bytes=67108864"]
OWNED_KINDS = (
    "replicasets,pods,services,serviceaccounts,poddisruptionbudgets,networkpolicies,controllerrevisions,jobs,pvc"
)
REAL_START_SECONDS = 300.0
REAL_CHANGE_SECONDS = 600.0
"""For a new revision of real vLLM: its image is asked before it is started, and vLLM's imports take up to a minute."""
UNJUDGED = {"strategy": "Readiness"}
"""spec.rollout of stories that are about other things: a new revision takes over once it is ready. Compared with what
serves it would need minutes of clients' requests first."""
LEASE = "nightshift-operator"
GATEWAY_PODS = "app.kubernetes.io/component=gateway"


def simulator_repository() -> str:
    """Image repository of the simulator, whose tags are engine versions."""
    return image("vllm-sim:0.32.0").rpartition(":")[0]


class World:
    """One story's namespace and clock."""

    def __init__(self, client: Client, namespace: str, audit: AuditLog | None = None) -> None:
        self.client = client
        self.namespace = namespace
        self.audit = audit
        """None where the cluster's audit log is not ours to read."""
        self.expected_errors: list[str] = []
        """Patterns of lines of level ERROR that the story provokes; they must come, and no others."""
        self.log: list[str] = []
        self._started = time.monotonic()

    def tell(self, step: str, what: str) -> None:
        """One line of the story."""
        line = f"[{time.monotonic() - self._started:6.1f}s] {step:>5} {what}"
        self.log.append(line)
        print(line, flush=True)

    def given(self, what: str) -> None:
        """A precondition."""
        self.tell("Given", what)

    def when(self, what: str) -> None:
        """What someone does."""
        self.tell("When", what)

    def then(self, what: str) -> None:
        """What must follow."""
        self.tell("Then", what)

    def open(self) -> None:
        """Make the story's namespace."""
        self.client.apply(restricted_namespace(self.namespace, story=True))

    def close(self) -> None:
        """Delete the story's namespace."""
        self.client.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def deployment(self, name: str = "tiny", **spec: Any) -> Object:
        """An LLMDeployment with the tiny model on real vLLM; keyword arguments replace parts of its spec.

        What is said of its rollout is added to UNJUDGED.
        """
        full: Object = {
            "model": {"uri": "hf://nightshift/tiny"},
            "engine": {"args": list(CPU_ARGS)},
            "hardware": {"candidates": [{"accelerator": "cpu"}]},
            "traffic": {"drainSeconds": 20},
        }
        return {
            "apiVersion": "nightshift.dev/v1alpha1",
            "kind": "LLMDeployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": full | spec | {"rollout": UNJUDGED | spec.get("rollout", {})},
        }

    def simulated(self, name: str = "tiny", version: str = "0.32.0", **spec: Any) -> Object:
        """The same on the simulator, which starts within a second."""
        engine = {"image": simulator_repository(), "version": version, "args": ["--max-model-len=512"]}
        return self.deployment(name, **({"engine": engine, "traffic": {"drainSeconds": 1}} | spec))

    def apply(self, *manifests: Object) -> None:
        """kubectl apply."""
        self.client.apply(*manifests)

    def read(self, name: str = "tiny") -> Object:
        """The LLMDeployment as it stands."""
        found = self.client.get("llmdeployment", name, self.namespace)
        assert found is not None, f"LLMDeployment {name} is gone"
        return found

    def condition(self, kind: str, name: str = "tiny") -> Object:
        """One condition."""
        conditions = self.read(name).get("status", {}).get("conditions", [])
        found = next((item for item in conditions if item["type"] == kind), None)
        assert found is not None, f"{name} has no condition {kind} yet"
        return dict(found)

    def expect(self, kind: str, status: str, reason: str | None = None, name: str = "tiny") -> Object:
        """Assert one condition of the present generation."""
        resource = self.read(name)
        assert resource.get("status", {}).get("observedGeneration") == resource["metadata"]["generation"]
        found = self.condition(kind, name)
        assert (found["status"], reason or found["reason"]) == (status, found["reason"]), json.dumps(found)
        return found

    def eventually(self, what: str, look: Callable[[], T | None], seconds: float = 60, every: float = 0.5) -> T:
        """Wait until something can be seen."""
        found = eventually(what, look, seconds, every)
        self.then(what)
        return found

    def becomes_ready(self, name: str = "tiny", seconds: float = REAL_START_SECONDS) -> Object:
        """Wait until the present spec serves."""
        return self.eventually(f"{name} is Ready", lambda: self.expect("Ready", "True", name=name), seconds)

    def engine_was_looked_at(self, name: str = "tiny") -> bool | None:
        """True once the status says what the running engine holds, which it does some time after Ready."""
        return self.read(name)["status"].get("fit", {}).get("source") == "Measured" or None

    def engine_pods(self, name: str = "tiny") -> list[Object]:
        """Engine pods of a deployment, those that are leaving included."""
        return self.client.list("pods", self.namespace, _engines(name))

    @contextmanager
    def following_engine_pods(self, name: str = "tiny") -> Iterator[Callable[[], list[dict[str, Object]]]]:
        """What engine pods there were, by name, after each change while the block lasts."""
        with self.client.following("pods", self.namespace, _engines(name)) as events:

            def history() -> list[dict[str, Object]]:
                states: list[dict[str, Object]] = [{}]
                for kind, pod in events():
                    others = {key: value for key, value in states[-1].items() if key != pod["metadata"]["name"]}
                    states.append(others if kind == "DELETED" else others | {pod["metadata"]["name"]: pod})
                return states

            yield history

    def owned(self, name: str = "tiny") -> list[str]:
        """Everything that exists of a deployment, as KIND/NAME."""
        found = self.client.list(OWNED_KINDS, self.namespace, f"nightshift.dev/deployment={name}")
        return [f"{item['kind']}/{item['metadata']['name']}" for item in found]

    def events(self) -> list[Object]:
        """Events about LLMDeployments in the story's namespace."""
        found = self.client.list("events", self.namespace)
        return [item for item in found if item["involvedObject"]["kind"] == "LLMDeployment"]

    def proxied(self, pod_or_service: str, path: str) -> str | None:
        """A GET through the API server's proxy; None where it failed."""
        try:
            return self.client.raw(f"/api/v1/namespaces/{self.namespace}/{pod_or_service}/proxy{path}")
        except KubectlError:
            return None

    @contextmanager
    def gateway(self) -> Iterator[str]:
        """The base URL of the gateway's Service."""
        with self.client.reach(GATEWAY_NAMESPACE, GATEWAY, GATEWAY_PORT) as base:
            yield base

    def asked(self, name: str = "tiny") -> str | None:
        """The answer to a request for one token through the gateway; None where it was refused."""
        body = {"model": name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        with self.gateway() as base:
            answer = curl(f"{base}/{self.namespace}/{name}/v1/chat/completions", body)
        return answer.text if answer.status == HTTPStatus.OK else None

    def leader(self) -> str | None:
        """Who holds the operators' Lease: the name of the pod, `_`, and what tells its processes apart."""
        lease = self.client.get("lease", LEASE, SYSTEM)
        return (lease["spec"].get("holderIdentity") or None) if lease else None

    def scale_operator(self, replicas: int) -> None:
        """Stop or start Nightshift itself."""
        self.client.kubectl("scale", "-n", SYSTEM, "deployment/nightshift", f"--replicas={replicas}")
        selector = "app.kubernetes.io/name=nightshift"

        def settled() -> bool | None:
            pods = self.client.list("pods", SYSTEM, selector)
            running = [pod for pod in pods if pod["status"]["phase"] == "Running" and answers(pod)]
            return True if len(pods) == replicas and len(running) == replicas else None

        eventually(f"{replicas} operator pods run", settled, 90)

    def dump(self) -> str:
        """What a person would look at after a failure."""
        parts = []
        for arguments in (
            ["get", "lld,rs,pods,jobs,pvc,svc", "-n", self.namespace, "-o", "wide"],
            ["get", "lld", "-n", self.namespace, "-o", "yaml"],
            ["describe", "pods", "-n", self.namespace],
            ["get", "events", "-n", self.namespace, "--sort-by=.lastTimestamp"],
            ["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/name=nightshift", "--tail=200", "--prefix"],
            ["get", "pods,configmaps,leases", "-n", GATEWAY_NAMESPACE],
            ["logs", "-n", GATEWAY_NAMESPACE, "-l", GATEWAY_PODS, "--all-containers", "--tail=100", "--prefix"],
            [
                "logs",
                "-n",
                self.namespace,
                "-l",
                "app.kubernetes.io/name=vllm",
                "--all-containers",
                "--tail=80",
                "--prefix",
            ],
        ):
            try:
                parts.append(f"$ kubectl {' '.join(arguments)}\n{self.client.kubectl(*arguments)}")
            except KubectlError as error:
                parts.append(str(error))
        return "\n\n".join(parts)

    @contextmanager
    def watching(self, look: Callable[[], T], every: float = 0.5) -> Iterator[list[tuple[float, T]]]:
        """Look at something again and again for as long as the block lasts; what was seen, with its time."""
        seen: list[tuple[float, T]] = []
        failed: list[BaseException] = []
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                try:
                    seen.append((time.monotonic(), look()))
                except Exception as error:
                    failed.append(error)
                    return
                stop.wait(every)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join(60)
        assert not failed, f"the watch beside the story failed: {failed[0]!r}"


def _engines(name: str) -> str:
    return f"nightshift.dev/deployment={name},app.kubernetes.io/component=engine"


def revision_of(pod: Object) -> str:
    """The revision that a pod belongs to."""
    return str(pod["metadata"]["labels"]["nightshift.dev/revision"])


def answers(pod: Object) -> bool:
    """Whether a pod passes its readiness probe, be it on its way out or not."""
    return any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"].get("conditions", []))


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready and stays."""
    return "deletionTimestamp" not in pod["metadata"] and answers(pod)
