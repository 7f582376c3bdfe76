"""One address for all models: every way to name one, what reaches the engine and what does not, and who may be away."""

import json
import threading
import time
from typing import Any

import openai
import pytest

from e2e.images import image
from e2e.stories.world import CPU_ARGS, GATEWAY_PODS, World, is_ready, simulator_repository
from e2e.support.asking import curl, official
from e2e.support.client import Object
from e2e.support.install import GATEWAY, GATEWAY_NAMESPACE

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."
CHAT: dict[str, Any] = {"messages": QUESTION, "temperature": 0, "max_tokens": 32}
MEGABYTE = 1_000_000
AWAY_SECONDS = 600.0
STREAM_WORDS = 100
STEP_SECONDS = 0.5
"""Between two tokens of a slow stream, which so lasts for about a minute."""
TOOL_ARGS = [
    "--enable-auto-tool-choice",
    "--tool-call-parser=xlam",
    '--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',
]
"""vLLM (0.32) refuses every tool_choice without the first two. This parser takes a call that a client names as plain
JSON: the tiny model has no form of its own for calls, and would put white space where it may."""
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]},
    },
}


def said(client: openai.OpenAI, model: str, **more: Any) -> str:
    """The answer to the question."""
    answer = client.chat.completions.create(model=model, **(CHAT | more))
    return (answer.choices[0].message.content or "").strip()


def text_of(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"]).strip()


def inside(world: World, *urls: str) -> dict[str, tuple[int, Any]]:
    """What a pod of the story's namespace gets from these addresses, with the question as the body."""
    program = (
        "import json, sys, urllib.request, urllib.error\n"
        "found = {}\n"
        "for url in sys.argv[2:]:\n"
        "    asked = urllib.request.Request(url, sys.argv[1].encode(), {'Content-Type': 'application/json'})\n"
        "    try:\n"
        "        with urllib.request.urlopen(asked, timeout=60) as answer:\n"
        "            found[url] = answer.status, json.load(answer)\n"
        "    except urllib.error.HTTPError as error:\n"
        "        found[url] = error.code, json.load(error)\n"
        "print('FOUND', json.dumps(found))\n"
    )
    container = {
        "name": "client",
        "image": image("operator"),
        "command": ["/opt/nightshift/bin/python", "-c", program, json.dumps(CHAT | {"model": "tiny"}), *urls],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    world.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "client", "namespace": world.namespace},
            "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]},
        }
    )

    def told() -> str | None:
        lines = world.client.kubectl("logs", "-n", world.namespace, "client").splitlines()
        return next((line.removeprefix("FOUND ") for line in lines if line.startswith("FOUND ")), None)

    found: dict[str, Any] = json.loads(world.eventually("a pod of the namespace asked", told, 90))
    return {url: (status, body) for url, (status, body) in found.items()}


@pytest.mark.engine("real vLLM")
def test_one_address_takes_every_way_to_name_a_model(world: World) -> None:
    world.given("the tiny model on real vLLM, behind the gateway")
    world.apply(world.deployment())
    world.becomes_ready()
    key = f"{world.namespace}/tiny"
    with world.gateway() as base:
        ways: dict[str, tuple[str, str, dict[str, str]]] = {
            "by its path": (f"{base}/{key}/v1", "tiny", {}),
            "by its name in the body": (f"{base}/v1", key, {}),
            "by the header x-model": (f"{base}/v1", "tiny", {"x-model": key}),
            "by the Host of its alias": (f"{base}/v1", "tiny", {"host": f"tiny.{world.namespace}.svc.cluster.local"}),
        }
        for way, (url, model, headers) in ways.items():
            with official(url, headers) as client:
                answer = said(client, model)
                world.then(f"{way} the official client gets: {answer}")
                assert answer == ANSWER
                pieces = [
                    chunk.choices[0].delta.content or ""
                    for chunk in client.chat.completions.create(model=model, stream=True, **CHAT)
                    if chunk.choices
                ]
                assert "".join(pieces).strip() == ANSWER
                assert len([piece for piece in pieces if piece]) > 1, "the stream came in one piece"
        for options in (("-H", f"Host: tiny.{world.namespace}"), ("-H", f"x-model: {key}")):
            assert text_of(curl(f"{base}/v1/chat/completions", CHAT | {"model": "tiny"}, *options).body) == ANSWER
        with official(f"{base}/v1") as client:
            assert key in {model.id for model in client.models.list()}
        url = world.read()["status"]["url"]
        assert url.endswith(f"/{key}/v1")

    world.when("a pod asks by the names that the cluster's DNS has")
    full, short, bare = (
        f"http://{name}" for name in (f"tiny.{world.namespace}.svc.cluster.local", f"tiny.{world.namespace}", "tiny")
    )
    path = "/v1/chat/completions"
    found = inside(world, *(f"{name}{path}" for name in (full, short, bare)), f"{url}/chat/completions")
    for address in (f"{full}{path}", f"{short}{path}", f"{url}/chat/completions"):
        assert found[address][0] == 200, found[address]
        assert text_of(found[address][1]) == ANSWER
    status, body = found[f"{bare}{path}"]
    world.then(f"a bare name is told the full one: {body['error']['message']}")
    assert (status, body["error"]["code"]) == (404, "host_not_full")
    assert f"tiny.{world.namespace}" in body["error"]["message"]


@pytest.mark.engine("real vLLM")
def test_what_the_engine_can_do_comes_through_and_errors_have_one_shape(world: World) -> None:
    world.given("the tiny model on real vLLM with a parser of tool calls, without which vLLM refuses them")
    world.apply(world.deployment(engine={"args": [*CPU_ARGS, *TOOL_ARGS]}))
    world.becomes_ready()
    (engine,) = world.engine_pods()
    key = f"{world.namespace}/tiny"
    with world.gateway() as base, official(f"{base}/{key}/v1") as client:
        world.then("log probabilities come with the answer")
        answer = client.chat.completions.create(model="tiny", logprobs=True, top_logprobs=2, **CHAT)
        assert answer.choices[0].logprobs is not None
        tokens = answer.choices[0].logprobs.content or []
        assert tokens
        assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
        completion = client.completions.create(model="tiny", prompt="The capital of", max_tokens=4, temperature=0)
        assert completion.choices[0].text

        world.then("a call of a tool comes as the engine itself answers it, whole and in a stream")
        tools: dict[str, Any] = {
            **CHAT,
            "model": "tiny",
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
        }
        with world.client.forward(world.namespace, f"pod/{engine['metadata']['name']}", 8000) as itself:
            straight = curl(f"{itself}/v1/chat/completions", tools)
        assert straight.status == 200, straight.text
        (same,) = straight.body["choices"][0]["message"]["tool_calls"]
        assert same["function"]["name"] == "weather"
        assert json.loads(same["function"]["arguments"]) == {"city": "Paris"}
        (call,) = client.chat.completions.create(**tools).choices[0].message.tool_calls or []
        assert call.type == "function"
        assert call.function.to_dict() == same["function"]
        parts = [
            part.function
            for chunk in client.chat.completions.create(stream=True, **tools)
            for part in (chunk.choices[0].delta.tool_calls if chunk.choices else None) or []
            if part.function is not None
        ]
        assert "".join(part.name or "" for part in parts) == "weather"
        assert "".join(part.arguments or "" for part in parts) == same["function"]["arguments"]

        world.when("a model is asked that there is not, and a chat model for embeddings")
        with official(f"{base}/v1") as shared, pytest.raises(openai.NotFoundError) as missing:
            said(shared, "nobody/nothing")
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError) as refused:
            client.embeddings.create(model="tiny", input="hello")
        world.then(f"that says: {refused.value.message}")
        assert refused.value.code == "path_not_served"
        for path in ("tokenize", "v1/load_lora_adapter", "metrics", "v1/../metrics", "docs"):
            answered = curl(f"{base}/{key}/{path}", {}, "--path-as-is")
            assert (answered.status, answered.error["type"]) == (404, "invalid_request_error"), path
        assert curl(f"{base}/v1/chat/completions", "{").error["code"] == "model_missing"

        world.when("a prompt of a megabyte is sent")
        long: dict[str, Any] = {"messages": [{"role": "user", "content": "x " * (MEGABYTE // 2)}], "model": key}
        by_host = ("-H", f"Host: tiny.{world.namespace}")
        for url, options in (
            (f"{base}/{key}/v1", ()),
            (f"{base}/v1", by_host),
            (f"{base}/v1", ("-H", f"x-model: {key}")),
        ):
            answered = curl(f"{url}/chat/completions", long, *options)
            assert answered.status == 400, answered.text[:500]
            assert "context length" in answered.error["message"], "the engine's own words"
        with official(f"{base}/v1") as shared, pytest.raises(openai.APIStatusError) as large:
            shared.chat.completions.create(**long)
        world.then(f"by the body alone: {large.value.message}")
        assert (large.value.status_code, large.value.code) == (413, "model_not_visible")
        assert "x-model" in large.value.message


class Asking:
    """Clients that ask one after the other for as long as the block lasts, and what went wrong."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        self._lock = threading.Lock()
        self.answered = 0
        self.failed: list[str] = []

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(130)

    def _run(self) -> None:
        with official(self._url) as client:
            while not self._stop.wait(0.1):
                try:
                    client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=2)
                    with self._lock:
                        self.answered += 1
                except openai.OpenAIError as error:
                    self.failed.append(f"{time.strftime('%H:%M:%S')} {error!r}")


def slow(world: World, **more: Any) -> Object:
    """A simulated engine whose answers take about a minute."""
    variables = {"VLLM_SIM_STEP_SECONDS": STEP_SECONDS, "VLLM_SIM_ANSWER_WORDS": STREAM_WORDS}
    engine = {
        "image": simulator_repository(),
        "version": "0.32.0",
        "args": ["--max-model-len=512"],
        "env": [{"name": name, "value": str(value)} for name, value in variables.items()],
    }
    return world.simulated("slow", engine=engine, **more)


class Streams:
    """Streams that are read side by side, each to its end."""

    def __init__(self, url: str, count: int) -> None:
        self.begun, self.whole = threading.Semaphore(0), 0
        self.failed: list[str] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._read, args=(url, n), daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            assert self.begun.acquire(timeout=60), "a stream did not begin"

    def join(self, seconds: float) -> None:
        """Wait for all of them."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a stream does not end"

    def _read(self, url: str, number: int) -> None:
        reason = None
        try:
            with official(url) as client:
                question: list[Any] = [{"role": "user", "content": f"Tell me a long story, number {number}."}]
                for count, chunk in enumerate(
                    client.chat.completions.create(
                        model="slow", messages=question, stream=True, max_tokens=STREAM_WORDS
                    )
                ):
                    if count == 1:
                        self.begun.release()
                    reason = (chunk.choices[0].finish_reason if chunk.choices else None) or reason
        except openai.OpenAIError as error:
            self.failed.append(repr(error))
        with self._lock:
            if reason in ("stop", "length"):
                self.whole += 1
            else:
                self.failed.append(f"it ended with {reason}")


def gateway_pods(world: World) -> dict[str, Object]:
    pods = world.client.list("pods", GATEWAY_NAMESPACE, GATEWAY_PODS)
    return {pod["metadata"]["name"]: pod for pod in pods}


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_both_gateways_are_restarted_and_nothing_is_cut(world: World) -> None:
    if not world.client.access.local:
        pytest.skip("a port-forward ends with the gateway pod that it leads to")
    world.given("two gateway pods, clients that ask all the time, and streams of a minute")
    world.apply(world.simulated(replicas=2), slow(world))
    world.becomes_ready(seconds=120)
    world.becomes_ready("slow", seconds=120)
    before = gateway_pods(world)
    assert sum(map(is_ready, before.values())) == 2
    with world.gateway() as base, Asking(f"{base}/{world.namespace}/tiny/v1") as asking:
        streams = Streams(f"{base}/{world.namespace}/slow/v1", 8)
        world.when("the gateway's Deployment is restarted")
        world.client.kubectl("rollout", "restart", "-n", GATEWAY_NAMESPACE, f"deployment/{GATEWAY}")
        world.client.kubectl(
            "rollout", "status", "-n", GATEWAY_NAMESPACE, f"deployment/{GATEWAY}", "--timeout=180s", timeout=200
        )
        streams.join(180)
        world.eventually("the former pods are gone", lambda: not set(before) & set(gateway_pods(world)) or None, 180)
    world.then(
        f"{asking.answered} requests were answered, {len(asking.failed)} failed; {streams.whole} streams are whole"
    )
    assert asking.failed == []
    assert streams.failed == []
    assert (streams.whole, asking.answered > 50) == (8, True)


def operator_away(world: World, seconds: float) -> None:
    """The operator is away for so long, and meanwhile a replica ends and another one comes."""
    world.given("two replicas behind the gateway, and clients that ask all the time")
    world.apply(world.simulated(replicas=2))
    world.becomes_ready(seconds=120)
    with world.gateway() as base, Asking(f"{base}/{world.namespace}/tiny/v1") as asking:
        world.scale_operator(0)
        try:
            begun = time.monotonic()
            world.when("the operator is away, and a replica is deleted")
            gone = world.engine_pods()[0]["metadata"]["name"]
            world.client.kubectl("delete", "pod", gone, "-n", world.namespace, "--wait=false")

            def replaced() -> bool | None:
                ready = [pod for pod in world.engine_pods() if is_ready(pod)]
                return (len(ready) == 2 and gone not in {pod["metadata"]["name"] for pod in ready}) or None

            world.eventually("another one took its place", replaced, 60)
            time.sleep(max(0.0, seconds - (time.monotonic() - begun)))
        finally:
            world.scale_operator(2)
    world.then(f"{asking.answered} requests were answered meanwhile, {len(asking.failed)} failed")
    assert asking.failed == []
    assert asking.answered > 50


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_while_the_operator_is_away_the_data_plane_goes_on(world: World) -> None:
    operator_away(world, 20.0)


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_while_the_operator_is_away_for_ten_minutes_the_data_plane_goes_on(world: World) -> None:
    operator_away(world, AWAY_SECONDS)
