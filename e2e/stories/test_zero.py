"""At zero: who asks is held in order and within bounds, wakes as many replicas as are needed, and hears what fails."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from e2e.stories.bad_inputs import SMALL, printed
from e2e.stories.test_rollout import GPU, offer_gpus
from e2e.stories.world import CPU_ARGS, GATEWAY_PODS, World, is_ready
from e2e.stories.zero import (
    ANSWER,
    COLD,
    IDLE_SECONDS,
    QUESTION,
    Asked,
    Crowd,
    Door,
    automatic,
    decided,
    decided_at,
    decisions,
    doors,
    falls_asleep,
    learned_start,
    replicas,
    sleeper,
)
from e2e.support.asking import Answer, curl
from e2e.support.client import eventually
from e2e.support.install import GATEWAY, GATEWAY_NAMESPACE
from nightshift.core.gateway.wake import RENEW_SECONDS

CLIENTS = 64
COMMENT_SECONDS = 10.0
ONE_AT_A_TIME = [
    *(flag for flag in CPU_ARGS if not flag.startswith("--max-num-seqs")),
    "--max-num-seqs=2",
    "--enable-log-requests",
]
"""One for each of the two gateway pods, which so releases the next request when the one before it has its answer."""
SOON_SECONDS = 2.0
"""What is said at once is said within it, on two busy cores."""
HALF_SEEN_SECONDS = 45.0
"""Longer than a deployment takes to go to zero where all of the gateway is seen: 10 s, and 30 s for the engine."""


def keep_looking(world: World, base: str, pod: str) -> int:
    """What probes and scrapers ask for again and again: requests of nobody. How many were answered otherwise."""
    deployment = f"{base}/{world.namespace}/tiny"
    statuses = [curl(f"{deployment}{path}").status for path in ("/health", "/metrics", "/v1/models")]
    engine = [world.proxied(f"pods/{pod}:8000", path) for path in ("/health", "/metrics")]
    return int(statuses != [404, 404, 200] or engine[1] is None)


@pytest.mark.engine("real vLLM")
def test_64_clients_at_zero_are_answered_in_the_order_in_which_they_came(world: World) -> None:
    world.given("the tiny model on real vLLM, which takes one request of each gateway pod at a time")
    engine = {"args": ONE_AT_A_TIME}
    world.apply(world.deployment(scaling=automatic(), engine=engine))
    world.becomes_ready()
    (first,) = world.engine_pods()
    with world.gateway() as base:
        crowd = Crowd()
        for _ in range(3):
            crowd.ask(f"{base}/{world.namespace}/tiny/v1")
        crowd.join(60)
        last = time.time()
        assert [asked.text.strip() for asked in crowd.all] == [ANSWER] * 3
        world.when("nobody asks any more but probes and scrapers")
        with world.watching(lambda: keep_looking(world, base, first["metadata"]["name"]), every=1.0) as looked:
            falls_asleep(world)
        gone_after = decided_at(world) - last
        world.then(f"it went {gone_after:.1f} s after the last answer, and was looked at {len(looked)} times meanwhile")
        assert "No request came for 10 s" in decided(world)["reason"]
        assert gone_after >= IDLE_SECONDS
        assert len(looked) >= IDLE_SECONDS / 2
        assert looked[0][1] == 0, "the first look failed"
        world.eventually("the engine is gone", lambda: not world.engine_pods() or None, 90)
        assert curl(f"{base}/{world.namespace}/tiny/v1/models").status == 200
        assert replicas(world) == 0, "a list of models woke it"

    with doors(world) as both, ThreadPoolExecutor() as beside:
        world.when(f"{CLIENTS} clients ask, one after the other, by turns at each of two gateway pods")
        crowd, began = Crowd(), time.monotonic()
        comments = beside.submit(stream_by_curl, both[0].url(world))
        eventually("curl waits", lambda: both[0].held(world) == 1, 20, every=0.02)
        for number in range(CLIENTS):
            crowd.ask_in_order(world, both[number % 2], stream=number % 4 < 2)
        world.then(f"all of them wait after {time.monotonic() - began:.1f} s")
        crowd.join(300)
        heard = comments.result()
    all_answered_in_order(world, crowd, both)
    asks = sum(line.startswith(": waiting for a replica") for line in heard.text.splitlines())
    world.then(f"curl got {asks} comments, and then its tokens")
    assert (heard.status, heard.headers[COLD]) == (200, "true")
    assert heard.headers["content-type"].startswith("text/event-stream")
    assert asks >= 1
    assert "data: [DONE]" in heard.text
    assert len(world.engine_pods()) == 1
    world.expect("Ready", "True", "Serving")


def stream_by_curl(url: str) -> Answer:
    """A stream with everything that official clients pass over."""
    body = {"model": "tiny", "messages": QUESTION, "max_tokens": 16, "temperature": 0, "stream": True}
    return curl(f"{url}/chat/completions", body, "--no-buffer", "--max-time", "240")


def all_answered_in_order(world: World, crowd: Crowd, both: list[Door]) -> None:
    failed = [asked for asked in crowd.all if asked.error is not None]
    assert not failed, f"{len(failed)} were not answered, the first: {failed[0]}"
    assert {asked.text.strip() for asked in crowd.all} == {ANSWER}
    assert {asked.cold for asked in crowd.all} == {True}
    came = reached_the_engine(world)
    for door in both:
        ours = [asked.number for asked in crowd.all if asked.url == door.url(world)]
        order = [number for number in came if number in ours]
        assert len(ours) == CLIENTS // 2
        assert order == ours, f"requests of {door.pod} reached the engine in the order {order}"
    waited = sorted(asked.first - asked.began for asked in crowd.all)
    world.then(f"all are answered in order; they waited {waited[0]:.1f} to {waited[-1]:.1f} s")


def reached_the_engine(world: World) -> list[int]:
    """The clients whose requests reached the engine, in that order, by its own log: clients on a busy machine see
    answers of neighbours in any order."""
    (pod,) = world.engine_pods()
    log = world.client.kubectl("logs", "-n", world.namespace, pod["metadata"]["name"], "-c", "engine")
    return [int(number) for number in re.findall(r"Received request chatcmpl-client-(\d+)\b", log)]


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_waiting_is_bounded_and_a_start_that_fails_is_told(world: World) -> None:
    world.given("a deployment that starts within 12 s, lets 4 requests wait, and each for 6 s")
    world.apply(sleeper(world, load=12, queue={"maxRequests": 4, "timeoutSeconds": 6}))
    world.becomes_ready(seconds=120)
    with doors(world) as both, world.gateway() as base:
        starts_that_fail(world, both, base)
        falls_asleep(world, gone=True)
        within_bounds(world, both)


def starts_that_fail(world: World, both: list[Door], base: str) -> None:
    """Three that cannot start: two are refused soon, and one after it has let its clients wait for a comment."""
    broken = printed("vllm-0.32.0-arch")["env"]
    late = [*broken, {"name": "VLLM_SIM_FAILURE_SECONDS", "value": "13"}]
    plain = sleeper(world)["spec"]["engine"]
    world.apply(
        sleeper(world, "absent", engine={**plain, "version": "9.9.9"}),
        sleeper(world, "refused", engine={**plain, "args": ["--speed=ludicrous"]}),
        sleeper(world, "late", engine={**plain, "env": late}),
    )
    world.when("clients ask for one whose engine needs 13 s to find that it cannot serve the model")
    eventually("both gateway pods know it", lambda: all(door.held(world, "late") is not None for door in both), 30)
    crowd = Crowd()
    stream, silent = (crowd.ask_in_order(world, both[0], "late", stream=stream) for stream in (True, False))
    crowd.join(90)
    waited = silent.ended - silent.began
    world.then(f"the stream, which had begun, ends with the reason as an error event after {waited:.0f} s")
    assert waited > COMMENT_SECONDS, "it was told before there was a comment, so nothing is shown"
    assert stream.cold
    assert isinstance(stream.error, openai.APIError)
    assert not isinstance(stream.error, openai.APIStatusError | openai.APIConnectionError), repr(stream.error)
    for asked in (stream, silent):
        told_why(asked, "ModelNotSupported")
    assert silent.status == 503
    assert abs(stream.ended - silent.ended) < SOON_SECONDS

    for name, reason in (
        ("absent", "ImagePullFailed"),
        ("refused", "EngineArgsRejected"),
        ("late", "ModelNotSupported"),
    ):
        told_at_once(world, base, name, reason)
    world.client.kubectl("delete", "lld", "absent", "refused", "late", "-n", world.namespace, "--wait=false")


def told_at_once(world: World, base: str, name: str, reason: str) -> None:
    """Who asks for a deployment that is known to fail hears so."""
    world.eventually(f"{name} is known to fail", lambda: world.expect("Ready", "False", reason, name=name), 60)
    eventually("the gateway knows it", lambda: fails(world, base, name), 10)
    crowd = Crowd()
    for stream in (False, True):
        crowd.ask(f"{base}/{world.namespace}/{name}/v1", name, stream=stream)
    crowd.join(30)
    took = max(asked.ended - asked.began for asked in crowd.all)
    world.then(f"who asks for {name} is told so within {took:.2f} s: {crowd.all[0].body['message'][:120]}")
    for asked in crowd.all:
        assert asked.status == 503
        told_why(asked, reason)
    assert took < SOON_SECONDS


def fails(world: World, base: str, name: str) -> bool | None:
    """Whether a request is refused, and not held."""
    body = {"model": name, "messages": QUESTION}
    return curl(f"{base}/{world.namespace}/{name}/v1/chat/completions", body).status == 503 or None


def told_why(asked: Asked, reason: str) -> None:
    """The answer names the reason, and keeps official clients from trying again in vain."""
    assert (asked.body["code"], asked.body["type"]) == ("start_failed", "server_error"), repr(asked.error)
    assert f"cannot start: {reason}." in asked.body["message"], asked.body
    if isinstance(asked.error, openai.APIStatusError):
        assert asked.headers["x-should-retry"] == "false"
        assert "retry-after" not in asked.headers


def within_bounds(world: World, both: list[Door]) -> None:
    world.when("at zero a client asks and leaves after a second")
    crowd = Crowd()
    left = crowd.ask_in_order(world, both[0], patience=1.0)
    crowd.join(10)
    assert isinstance(left.error, openai.APITimeoutError)
    uid = world.eventually("its replica comes all the same", lambda: the_new_pod(world), 20)

    world.when("meanwhile two clients ask at each gateway pod, and then one more")
    waiting = [crowd.ask_in_order(world, door) for door in both for _ in range(2)]
    over = [crowd.ask(door.url(world)) for door in both]
    crowd.join(30)
    for asked in over:
        again = int(asked.headers["retry-after"])
        assert (asked.status, asked.body["code"], asked.body["type"]) == (429, "queue_full", "rate_limit_error")
        assert "traffic.queue.maxRequests" in asked.body["message"]
        assert 1 <= again <= 60
        assert asked.ended - asked.began < SOON_SECONDS
    world.then(f"those get 429 at once: {over[0].body['message']}")
    waited = [asked.ended - asked.began for asked in waiting]
    world.then(f"the others get 503 after {min(waited):.1f} to {max(waited):.1f} s: {waiting[0].body['message']}")
    for asked in waiting:
        assert (asked.status, asked.body["code"]) == (503, "start_timeout")
        assert int(asked.headers["retry-after"]) >= 1
    assert min(waited) >= 6
    assert max(waited) < 6 + SOON_SECONDS

    def serves() -> bool | None:
        return any(pod["metadata"]["uid"] == uid and is_ready(pod) for pod in world.engine_pods()) or None

    world.eventually("nobody waits any more, and the same replica becomes ready", serves, 60)
    after = Crowd()
    for door in both:
        after.ask(door.url(world))
    after.join(30)
    assert [asked.status for asked in after.all] == [200, 200]


def the_new_pod(world: World) -> str | None:
    """The uid of the one engine pod that stays."""
    there = [pod for pod in world.engine_pods() if "deletionTimestamp" not in pod["metadata"]]
    return str(there[0]["metadata"]["uid"]) if len(there) == 1 else None


def scale_gateway(world: World, count: int) -> None:
    """Have so many gateway pods at once: one that is stopped in order listens and tells its demand for a while yet."""
    world.client.kubectl("scale", "-n", GATEWAY_NAMESPACE, f"deployment/{GATEWAY}", f"--replicas={count}")

    def settled() -> bool | None:
        pods = world.client.list("pods", GATEWAY_NAMESPACE, GATEWAY_PODS)
        for pod in pods:
            if "deletionTimestamp" in pod["metadata"]:
                delete_at_once(world, pod["metadata"]["name"])
        return len(pods) == count == len([pod for pod in pods if is_ready(pod)]) or None

    eventually(f"there are {count} gateway pods", settled, 120)


def delete_at_once(world: World, pod: str) -> None:
    command = ["delete", "pod", pod, "-n", GATEWAY_NAMESPACE, "--grace-period=0", "--force", "--ignore-not-found"]
    world.client.kubectl(*command)


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_a_gateway_pod_is_killed_while_it_holds_and_half_a_gateway_gives_nothing_up(world: World) -> None:
    world.given("a deployment that starts within 16 s and may go to zero, and one of two gateway pods")
    world.apply(sleeper(world, load=16), sleeper(world, "mute", args=["--disable-log-stats"]))
    try:
        scale_gateway(world, 1)
        world.becomes_ready(seconds=120)
        world.becomes_ready("mute", seconds=120)
        with world.watching(lambda: replicas(world), every=2.0) as seen:
            time.sleep(HALF_SEEN_SECONDS)
        world.then(f"nothing is given up in {HALF_SEEN_SECONDS:.0f} s without a request")
        assert {count for _, count in seen} == {1}
    finally:
        scale_gateway(world, 2)
    falls_asleep(world, gone=True)
    assert replicas(world, "mute") == 1, "it went without a word of its metrics"
    world.then("that whose engine tells no metrics is kept")
    with doors(world) as both, world.gateway() as base:
        killed_while_it_holds(world, both, f"{base}/{world.namespace}/tiny/v1")
    last = time.time()
    start = eventually("a start of 16 s stands in the Lease", lambda: learned_start(world) or None, 2 * RENEW_SECONDS)
    assert start > IDLE_SECONDS
    falls_asleep(world)
    rested = decided_at(world) - last
    world.then(f"it went {rested:.1f} s after the last answer; a start takes {start:.1f} s, as was learned")
    assert rested >= start - 0.1
    assert replicas(world, "mute") == 1


def killed_while_it_holds(world: World, both: list[Door], again: str) -> None:
    world.when("four clients wait at each gateway pod, and streams among them have begun")
    crowd = Crowd()
    for number in range(8):
        crowd.ask_in_order(world, both[number % 2], stream=number % 4 < 2)
    uid = eventually("a replica comes", lambda: the_new_pod(world), 20)
    eventually("the streams have begun", lambda: all(asked.cold for asked in crowd.all if asked.stream), 20, every=0.1)
    victims, others = (crowd.all[first::2] for first in (0, 1))
    assert not any(asked.ended for asked in crowd.all)

    world.when(f"{both[0].pod} is deleted without grace")
    killed = time.monotonic()
    delete_at_once(world, both[0].pod)
    eventually("its clients know", lambda: all(asked.ended for asked in victims), 20, every=0.1)
    told = [
        "a connection that ends" if asked.cut else f"{asked.status} {json.dumps(asked.body['code'])}"
        for asked in victims
    ]
    world.then(f"within {max(asked.ended for asked in victims) - killed:.1f} s its clients see: {', '.join(told)}")
    for asked in victims:
        assert (asked.text, asked.finish) == ("", None), "an answer that never came looks like one"
        assert asked.cut or asked.body["code"] == "gateway_stopping", repr(asked.error)

    world.when("they ask again")
    for asked in victims:
        crowd.ask(again, stream=asked.stream)
    crowd.join(60)
    answered = [*others, *crowd.all[8:]]
    waited = max(asked.first - asked.began for asked in answered)
    world.then(f"they and those of the other pod are answered, after at most {waited:.1f} s")
    assert [(asked.error, asked.finish is not None) for asked in answered] == [(None, True)] * 8
    assert [pod["metadata"]["uid"] for pod in world.engine_pods() if is_ready(pod)] == [uid], "the wake began anew"


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_a_burst_starts_three_replicas_at_once_and_who_finds_no_accelerator_is_told(world: World) -> None:
    offer_gpus(world, 3)
    world.given("a node with three accelerators, and two deployments at zero that need one for each replica")
    world.apply(
        sleeper(world, load=5, scaling=automatic(22, maxReplicas=8), hardware=GPU, podTemplate=SMALL),
        sleeper(world, "poor", hardware=GPU),
    )
    for name in ("tiny", "poor"):
        world.becomes_ready(name, seconds=120)
    falls_asleep(world, "tiny", "poor", gone=True)
    selector = "nightshift.dev/deployment=tiny"
    with doors(world) as both, world.client.following("replicasets", world.namespace, selector) as events:
        world.when(f"{CLIENTS} clients ask at the same time; a replica is to have 22")
        crowd, began = Crowd(), time.time()
        for number in range(CLIENTS):
            crowd.ask(both[number % 2].url(world), stream=number % 4 < 2)
        crowd.join(120)
        took = time.time() - began
        steps = decisions(found for _, found in events())
    failed = [asked for asked in crowd.all if asked.error is not None or not asked.finish]
    assert not failed, f"{len(failed)} were not answered, the first: {failed[0]}"
    counts, woken, sized = [count for count, _ in steps], steps[1][1], steps[-1][1]
    world.then(f"replicas went {counts}, within {sized - woken:.1f} s of the wake; all took {took:.1f} s")
    assert counts[-1] == max(counts) == 3
    assert sized - woken < SOON_SECONDS, "three were wanted only after one of them could have served"
    world.eventually("three replicas serve", lambda: len([p for p in world.engine_pods() if is_ready(p)]) == 3 or None)

    world.when("the other deployment is asked, and no accelerator is left")
    with world.gateway() as base:
        url = f"{base}/{world.namespace}/poor/v1"
        late = Crowd()
        for stream in (False, True):
            late.ask(url, "poor", stream=stream)
        late.join(30)
        waited = max(asked.ended - asked.began for asked in late.all)
        world.then(f"its clients are told after {waited:.1f} s: {late.all[0].body['message'][:160]}")
        for asked in late.all:
            assert asked.status == 503
            told_why(asked, "NoGpuCapacity")
        assert waited < 5
        world.eventually("the status names it", lambda: world.expect("ScalingLimited", "True", "NoGpuCapacity", "poor"))
        named = {item["reason"] for item in world.events() if item["involvedObject"]["name"] == "poor"}
        world.then(f"Events of it: {', '.join(sorted(named))}")
        assert "NoGpuCapacity" in named

        world.when("a fourth accelerator is added")
        offer_gpus(world, 4)

        def served() -> bool | None:
            more = Crowd()
            more.ask(url, "poor")
            more.join(130)
            return more.all[0].status == 200 or None

        world.eventually("who asks again is answered", served, 60)
