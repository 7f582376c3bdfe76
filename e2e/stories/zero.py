"""What stories of zero share: deployments that nobody asks, clients in a known order, and the gateway's own doors."""

import json
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx2
import openai
from prometheus_client.parser import text_string_to_metric_families

from e2e.stories.bad_inputs import SMALL
from e2e.stories.world import GATEWAY_PODS, World, is_ready, simulator_repository
from e2e.support.asking import official
from e2e.support.client import Object, eventually
from e2e.support.install import GATEWAY_NAMESPACE

IDLE_SECONDS = 10
"""The shortest that spec.scaling.idleSeconds may be."""
CLIENTS_PORT, ACTIVATOR_PORT = 8000, 8082
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."
COLD = "x-nightshift-cold-start"
SLEEP_SECONDS = 120.0
"""Until a deployment is at zero: idleSeconds, and an engine's reading that may be half a minute old."""


def automatic(target: int = 64, **more: Any) -> dict[str, Any]:
    """spec.scaling of a deployment that goes to zero as soon as it may."""
    scaling = {"mode": "Auto", "minReplicas": 0, "maxReplicas": 1, "idleSeconds": IDLE_SECONDS}
    return scaling | {"target": {"concurrentRequests": target}} | more


def sleeper(
    world: World,
    name: str = "tiny",
    load: float = 1.0,
    *,
    args: Sequence[str] = (),
    queue: dict[str, int] | None = None,
    **spec: Any,
) -> Object:
    """A simulated engine that takes so many seconds to start, and is at zero when nobody asks."""
    engine = {
        "image": simulator_repository(),
        "version": "0.32.0",
        "args": ["--max-model-len=512", *args],
        "env": [{"name": "VLLM_SIM_LOAD_SECONDS", "value": str(load)}],
    }
    traffic: dict[str, Any] = {"drainSeconds": 1} | ({"queue": queue} if queue else {})
    full: dict[str, Any] = {"engine": engine, "podTemplate": SMALL, "scaling": automatic(), "traffic": traffic}
    return world.simulated(name, **(full | spec))


def replicas(world: World, name: str = "tiny") -> int:
    """Replicas that are asked for, of all revisions."""
    selector = f"nightshift.dev/deployment={name}"
    return sum(int(item["spec"]["replicas"]) for item in world.client.list("replicasets", world.namespace, selector))


def decided(world: World, name: str = "tiny") -> dict[str, Any]:
    """The note of the last decision on replicas: how many, when, why."""
    selector = f"nightshift.dev/deployment={name}"
    notes = [_note(item) for item in world.client.list("replicasets", world.namespace, selector)]
    return max(notes, key=lambda note: str(note["at"]))


def decided_at(world: World, name: str = "tiny") -> float:
    """When that was, in seconds of the wall clock, which operator and story share on the local cluster."""
    return _moment(decided(world, name))


def decisions(replica_sets: Iterable[Object]) -> list[tuple[int, float]]:
    """The numbers that were decided, each with its moment, from the states of one ReplicaSet in their order."""
    notes = [_note(item) for item in replica_sets]
    return list(dict.fromkeys((int(note["replicas"]), _moment(note)) for note in notes))


def _note(replica_set: Object) -> dict[str, Any]:
    return dict(json.loads(replica_set["metadata"]["annotations"]["nightshift.dev/scaling"]))


def _moment(note: dict[str, Any]) -> float:
    return datetime.fromisoformat(note["at"]).timestamp()


def learned_start(world: World, name: str = "tiny") -> float:
    """How long a start takes, as the wake Leases say; 0 where nobody has learned it."""
    selector = f"nightshift.dev/wake=true,nightshift.dev/namespace={world.namespace},nightshift.dev/deployment={name}"
    leases = world.client.list("leases", GATEWAY_NAMESPACE, selector)
    told = (item["metadata"].get("annotations", {}).get("nightshift.dev/typical-start-seconds") for item in leases)
    return max((float(seconds) for seconds in told if seconds is not None), default=0.0)


def falls_asleep(world: World, name: str = "tiny", *others: str, gone: bool = False) -> None:
    """Wait until no replica of these runs, since nobody asks; with `gone` until the last pods have left as well."""
    for each in (name, *others):

        def asleep(each: str = each) -> bool | None:
            world.expect("Ready", "True", "Idle", name=each)
            return (replicas(world, each) == 0 and not (gone and world.engine_pods(each))) or None

        world.eventually(f"{each} is at zero, and Ready", asleep, SLEEP_SECONDS)


@dataclass(frozen=True)
class Door:
    """One gateway pod, asked by its own address: only there is it known in which order requests came."""

    pod: str
    clients: str
    activator: str

    def held(self, world: World, name: str = "tiny") -> int | None:
        """Requests for a deployment that wait in this pod; None where the pod has not been told of the deployment."""
        with urllib.request.urlopen(f"{self.activator}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            labels = {"namespace": world.namespace, "name": name}
            samples = [one for family in families for one in family.samples if one.name == "nightshift_gateway_held"]
        return next((int(one.value) for one in samples if one.labels == labels), None)

    def url(self, world: World, name: str = "tiny") -> str:
        """A deployment's base URL at this pod."""
        return f"{self.clients}/{world.namespace}/{name}/v1"


def gateway_pods(world: World) -> list[Object]:
    """The gateway's pods that are ready and stay."""
    return [pod for pod in world.client.list("pods", GATEWAY_NAMESPACE, GATEWAY_PODS) if is_ready(pod)]


@contextmanager
def doors(world: World) -> Iterator[list[Door]]:
    """Both gateway pods."""

    def both() -> list[Object] | None:
        found = gateway_pods(world)
        return found if len(found) == 2 else None

    pods = eventually("two gateway pods are ready", both, 120)
    with ExitStack() as stack:
        found = []
        for pod in sorted(pods, key=lambda item: str(item["metadata"]["name"])):
            name = pod["metadata"]["name"]
            if world.client.access.local:
                bases = [f"http://{pod['status']['podIP']}:{port}" for port in (CLIENTS_PORT, ACTIVATOR_PORT)]
            else:
                bases = [
                    stack.enter_context(world.client.forward(GATEWAY_NAMESPACE, f"pod/{name}", port))
                    for port in (CLIENTS_PORT, ACTIVATOR_PORT)
                ]
            found.append(Door(name, *bases))
        yield found


@dataclass
class Asked:
    """A client, and what it got so far. Times are seconds of the monotonic clock."""

    number: int
    url: str
    stream: bool
    began: float = field(default_factory=time.monotonic)
    first: float = 0.0
    """When the first of the answer came; 0 until then."""
    ended: float = 0.0
    text: str = ""
    finish: str | None = None
    """Why the answer ended, as the engine says; None where it did not end by itself."""
    cold: bool = False
    error: Exception | None = None

    @property
    def status(self) -> int:
        """Of the answer; 0 where there was none."""
        if isinstance(self.error, openai.APIStatusError):
            return self.error.status_code
        return 200 if self.first else 0

    @property
    def body(self) -> dict[str, Any]:
        """The error, in OpenAI's shape."""
        assert isinstance(self.error, openai.APIError), repr(self.error)
        body = self.error.body
        assert isinstance(body, dict), repr(self.error)
        assert set(body) >= {"message", "type", "param", "code"}, body
        return body

    @property
    def headers(self) -> httpx2.Headers:
        """Of an answer that says no."""
        assert isinstance(self.error, openai.APIStatusError), repr(self.error)
        return self.error.response.headers

    @property
    def cut(self) -> bool:
        """Whether its connection ended before the answer did."""
        return isinstance(self.error, openai.APIConnectionError | httpx2.TransportError) and not isinstance(
            self.error, openai.APITimeoutError
        )


class Crowd:
    """Clients of OpenAI's own library, each in a thread and with a connection of its own."""

    def __init__(self) -> None:
        self.all: list[Asked] = []
        self._threads: list[threading.Thread] = []

    def ask(
        self, url: str, name: str = "tiny", *, stream: bool = False, patience: float = 120.0, max_tokens: int = 16
    ) -> Asked:
        """A client that asks now, and leaves when its patience is over."""
        asked = Asked(len(self.all), url, stream)
        arguments = (asked, name, patience, max_tokens)
        thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self.all.append(asked)
        self._threads.append(thread)
        thread.start()
        return asked

    def ask_in_order(self, world: World, door: Door, name: str = "tiny", **how: Any) -> Asked:
        """A client of one gateway pod; back once its request waits there."""
        before = door.held(world, name) or 0
        asked = self.ask(door.url(world, name), name, **how)

        def waits() -> bool:
            assert not asked.ended, f"it does not wait: {asked}"
            return (door.held(world, name) or 0) > before

        eventually(f"the request of client {asked.number} waits in {door.pod}", waits, 20, every=0.02)
        return asked

    def join(self, seconds: float) -> None:
        """Wait until all of them have their answers, or left."""
        deadline = time.monotonic() + seconds
        for asked, thread in zip(self.all, self._threads, strict=True):
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"a client waits still: {asked}"

    @staticmethod
    def _run(asked: Asked, name: str, patience: float, max_tokens: int) -> None:
        try:
            with official(asked.url) as client:
                raw = client.with_options(timeout=patience).chat.completions.with_raw_response.create(
                    model=name,
                    messages=QUESTION,
                    temperature=0,
                    max_tokens=max_tokens,
                    stream=asked.stream,
                    extra_headers={"x-request-id": f"client-{asked.number}"},
                )
                asked.cold = raw.headers.get(COLD) == "true"
                parsed: Any = raw.parse()
                _read(asked, parsed if asked.stream else [parsed])
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            asked.error = error
        asked.ended = time.monotonic()


def _read(asked: Asked, parts: Iterable[Any]) -> None:
    """Take in an answer: the chunks of a stream, or its one part."""
    for part in parts:
        for choice in part.choices:
            said = (choice.delta if asked.stream else choice.message).content
            if said and not asked.first:
                asked.first = time.monotonic()
            asked.text += said or ""
            asked.finish = choice.finish_reason or asked.finish
