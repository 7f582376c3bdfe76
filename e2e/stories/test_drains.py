"""Engines that go while clients are served cut nothing; one that is killed cuts what had begun and nothing else."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any

import openai
import pytest

from e2e.stories.bad_inputs import SMALL
from e2e.stories.world import CPU_ARGS, REAL_CHANGE_SECONDS, World, is_ready, revision_of, simulator_repository
from e2e.support.asking import curl, official
from e2e.support.client import KubectlError, Object
from e2e.support.killing import kill_container
from e2e.support.load import Load, Outcome, Shape

STEP_SECONDS = 0.2
"""Between two tokens of the simulated engine."""
SHORT = 2
REQUESTS = 2000
STREAM = 150
"""Tokens, for half a minute."""
OK, BAD_GATEWAY = 200, 502
LEAVING_SECONDS = 30.0
"""preStop's 15 s, and what the cluster takes to see that a pod is gone: more than its last stream took."""

Make = Callable[..., Object]
"""The deployment, with so many replicas and these arguments more."""


def slowly(world: World, drain_seconds: int) -> Make:
    """The simulator, which takes its time for each token."""

    def make(replicas: int, *arguments: str) -> Object:
        engine = {
            "image": simulator_repository(),
            "version": "0.32.0",
            "args": ["--max-model-len=2048", *arguments],
            "env": [{"name": "VLLM_SIM_STEP_SECONDS", "value": str(STEP_SECONDS)}],
        }
        return world.simulated(
            engine=engine, replicas=replicas, podTemplate=dict(SMALL), traffic={"drainSeconds": drain_seconds}
        )

    return make


def in_truth(world: World, drain_seconds: int) -> Make:
    """Real vLLM with the tiny model."""

    def make(replicas: int, *arguments: str) -> Object:
        template = {"resources": {"requests": {"cpu": "20m"}}}
        engine = {"args": [*CPU_ARGS, *arguments]}
        return world.deployment(
            engine=engine, replicas=replicas, podTemplate=template, traffic={"drainSeconds": drain_seconds}
        )

    return make


def running(world: World, pod: Object) -> int:
    """Requests that an engine works on, as it says itself."""
    text = world.proxied(f"pods/{pod['metadata']['name']}:8000", "/metrics") or ""
    return round(
        sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("vllm:num_requests_running{"))
    )


def serving(world: World, count: int, without: set[str] | None = None) -> list[Object] | None:
    """The pods that are ready and stay, if they are so many and none of them is one of those."""
    pods = [pod for pod in world.engine_pods() if is_ready(pod)]
    named = {pod["metadata"]["name"] for pod in pods}
    return pods if len(pods) == count and not named & (without or set()) else None


def names(pods: list[Object]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def busy(world: World, pods: list[Object], least: int = 1) -> bool | None:
    return all(running(world, pod) >= least for pod in pods) or None


def evict(world: World, pod: Object) -> bool | None:
    """Ask for it as `kubectl drain` does; None where the disruption budget says not now."""
    name = pod["metadata"]["name"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": world.namespace},
    }
    try:
        world.client.post(f"/api/v1/namespaces/{world.namespace}/pods/{name}/eviction", body)
    except KubectlError as error:
        if "disruption budget" not in str(error):
            raise
        return None
    return True


class Departures:
    """How long each pod took to leave, seen by looking at them again and again."""

    def __init__(self, world: World) -> None:
        self._watch = world.watching(partial(self._look, world), 1.0)

    @staticmethod
    def _look(world: World) -> tuple[float, dict[str, tuple[float, float]]]:
        leaving = {}
        for pod in world.engine_pods():
            metadata = pod["metadata"]
            if "deletionTimestamp" in metadata:
                grace = float(metadata["deletionGracePeriodSeconds"])
                ends = datetime.fromisoformat(metadata["deletionTimestamp"]).timestamp()
                leaving[metadata["name"]] = (ends - grace, grace)
        return time.time(), leaving

    def __enter__(self) -> "Departures":
        self._seen = self._watch.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._watch.__exit__(*error)

    def told(self) -> dict[str, tuple[float, float]]:
        """Of each pod that left: the seconds that it took, and those that it had."""
        found: dict[str, tuple[float, float]] = {}
        for _, (at, leaving) in self._seen:
            found |= {name: (at - begun, grace) for name, (begun, grace) in leaving.items()}
        return found


def judge(world: World, outcome: Outcome, departures: Departures, stream_seconds: float) -> None:
    """Nothing failed, nothing was cut, and pods left as soon as they were empty."""
    told = departures.told()
    took = ", ".join(f"{seconds:.0f}" for seconds, _ in told.values())
    world.then(
        f"of {outcome.asked} requests {outcome.failed} failed; of {outcome.streams} streams, the longest of "
        f"{outcome.longest_stream_seconds:.0f} s, {outcome.cut} were cut; no pause was longer than "
        f"{outcome.longest_pause_seconds:.1f} s; the client took {outcome.processor_share:.0%} of a core"
    )
    world.then(f"{len(told)} pods left, in {took} s")
    assert (outcome.failed, outcome.cut) == (0, 0), "\n".join(outcome.words)
    assert outcome.whole == outcome.streams
    assert outcome.answered == outcome.asked - outcome.streams
    assert outcome.processor_share < 0.5, "the client was too busy to judge others"
    for name, (seconds, grace) in told.items():
        assert seconds < grace, f"{name} was there when its grace of {grace:.0f} s was over: it was killed"
        assert seconds < stream_seconds + LEAVING_SECONDS, f"{name} stayed for {seconds:.0f} s"


def three_ways_to_go(world: World, make: Make, stream_seconds: float, shape: Shape) -> None:
    """A revision change, evictions, and fewer replicas, one after the other, while clients ask."""
    world.given(f"three replicas, short requests, and {shape.streams} streams of {stream_seconds:.0f} s side by side")
    world.apply(make(3))
    world.becomes_ready(seconds=120)
    gone: set[str] = set()
    with (
        world.gateway() as base,
        Departures(world) as departures,
        Load(f"{base}/{world.namespace}/tiny/v1", shape) as load,
    ):
        pods = serving(world, 3) or []

        def all_carry() -> bool | None:
            assert not load.ended(), "the clients ended"
            return busy(world, pods)

        def replaced() -> list[Object] | None:
            return serving(world, 3, gone)

        world.eventually("each replica carries streams", all_carry, stream_seconds + 30)
        gone |= names(pods)
        world.when("an argument is changed, which makes a new revision")
        world.apply(make(3, "--seed=1"))
        pods = world.eventually("three replicas of the new revision serve", replaced, 120)
        assert len({revision_of(pod) for pod in pods}) == 1
        world.eventually("each replica carries streams", all_carry, stream_seconds + 30)
        gone |= names(pods)
        world.when("each of them is evicted, one as soon as the disruption budget allows it after the other")
        for pod in pods:
            world.eventually(f"{pod['metadata']['name']} is evicted", partial(evict, world, pod), 120)
        pods = world.eventually("three others took their places", replaced, 120)
        world.eventually("each replica carries streams", all_carry, stream_seconds + 30)
        before = names(pods)
        world.when("kubectl scale --replicas=1")
        world.client.kubectl("scale", "lld", "tiny", "-n", world.namespace, "--replicas=1")
        (left,) = world.eventually("one replica is left to serve", lambda: serving(world, 1), 60)
        gone |= before - names([left])
        world.eventually(
            "all others are gone",
            lambda: not names(world.engine_pods()) & gone or None,
            stream_seconds + LEAVING_SECONDS,
        )
        outcome = load.outcome(2 * stream_seconds + 120)
    assert set(departures.told()) == gone
    judge(world, outcome, departures, stream_seconds)
    assert outcome.asked >= REQUESTS
    assert outcome.longest_stream_seconds > 0.95 * stream_seconds


@pytest.mark.engine("simulator")
def test_replicas_that_are_replaced_evicted_and_given_up_cut_nothing(world: World) -> None:
    shape = Shape("tiny", per_second=20, tokens=SHORT, streams=24, stream_tokens=200, at_least=REQUESTS)
    three_ways_to_go(world, slowly(world, 60), 40.0, shape)


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_replicas_that_are_replaced_evicted_and_given_up_cut_no_stream_of_150_seconds(world: World) -> None:
    shape = Shape("tiny", per_second=8, tokens=SHORT, streams=24, stream_tokens=750, at_least=REQUESTS)
    three_ways_to_go(world, slowly(world, 180), 150.0, shape)


@pytest.mark.long
@pytest.mark.engine("real vLLM")
def test_with_real_vllm_replicas_that_are_given_up_replaced_and_evicted_cut_nothing(world: World) -> None:
    world.given("two replicas, short requests, and streams as long as the model's context")
    make = in_truth(world, 60)
    world.apply(make(2))
    world.becomes_ready()
    shape = Shape("tiny", per_second=2, tokens=SHORT, streams=4, stream_tokens=440)
    with (
        world.gateway() as base,
        Departures(world) as departures,
        Load(f"{base}/{world.namespace}/tiny/v1", shape) as load,
    ):
        pods = serving(world, 2) or []
        first = names(pods)
        world.eventually("each replica carries streams", lambda: busy(world, pods), 60)
        world.when("kubectl scale --replicas=1")
        world.client.kubectl("scale", "lld", "tiny", "-n", world.namespace, "--replicas=1")
        pods = world.eventually("one replica is left to serve", lambda: serving(world, 1), 60)
        world.eventually("it carries all streams", lambda: busy(world, pods, shape.streams), 60)
        world.when("an argument is changed, which makes a new revision")
        world.apply(make(1, "--seed=1"))
        pods = world.eventually(
            "a replica of the new revision serves", lambda: serving(world, 1, first), REAL_CHANGE_SECONDS
        )
        world.eventually("it carries streams", lambda: busy(world, pods), 60)
        evicted = names(pods)
        world.when("that one, the only one, is evicted")
        assert evict(world, pods[0])
        world.eventually("another one took its place", lambda: serving(world, 1, first | evicted), 240)
        world.eventually("all others are gone", lambda: not names(world.engine_pods()) & (first | evicted) or None, 90)
        outcome = load.outcome(180)
    assert set(departures.told()) == first | evicted
    judge(world, outcome, departures, 60.0)
    assert outcome.streams >= 3 * shape.streams


def ask_silently(url: str, tokens: int, retries: int = 0) -> int:
    """A request without a stream, whose answer has no byte until it is whole; its status."""
    with official(url) as client:
        answer = client.with_options(max_retries=retries).chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Tell a story."}],
            max_tokens=tokens,
            extra_body={"ignore_eos": True},
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == tokens
    return OK


def ask_at_length(url: str, tokens: int) -> int:
    """The same, in a body that the gateway cannot keep to send it again."""
    body = {"model": "tiny", "prompt": "Tell a story.", "max_tokens": tokens, "ignore_eos": True, "user": "x" * 100_000}
    return curl(f"{url}/completions", body).status


def stream(url: str, tokens: int) -> int:
    """A stream; how many tokens came."""
    count = 0
    with official(url) as client, contextlib.suppress(Exception):  # of the client, or of its transport
        for chunk in client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Tell a story."}],
            max_tokens=tokens,
            stream=True,
            extra_body={"ignore_eos": True},
        ):
            count += bool(chunk.choices and chunk.choices[0].delta.content)
            if chunk.choices and chunk.choices[0].finish_reason == "length":
                return tokens
    return count


def kill(world: World, pod: Object) -> None:
    """SIGKILL its engine, as the pod stands."""
    current = next(one for one in world.engine_pods() if names([one]) == names([pod]))
    world.when(kill_container(world.client, current, "engine"))


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_the_only_engine_is_killed_and_clients_that_try_again_are_answered(world: World) -> None:
    world.given("one replica that works on answers for six, whose clients try again as OpenAI's do by themselves")
    world.apply(slowly(world, 60)(1))
    world.becomes_ready(seconds=120)
    (victim,) = serving(world, 1) or []
    with world.gateway() as base, ThreadPoolExecutor(12) as pool:
        url = f"{base}/{world.namespace}/tiny/v1"
        silent = [pool.submit(ask_silently, url, 40, openai.DEFAULT_MAX_RETRIES) for _ in range(6)]
        world.eventually("it works on all of them", lambda: running(world, victim) == 6 or None, 30)
        kill(world, victim)
        late = [pool.submit(ask_silently, url, 2, openai.DEFAULT_MAX_RETRIES) for _ in range(6)]
        found = ended(silent), ended(late)
    world.then(f"they are answered {found[0]}, and those who came after it {found[1]}")
    assert found == ([OK] * 6, [OK] * 6)


@pytest.mark.engine("simulator")
def test_an_engine_that_is_killed_fails_only_what_had_begun_or_cannot_be_sent_again(world: World) -> None:
    make = slowly(world, 60)
    world.given("one replica that streams to four, and works on answers for six, and for two with large questions")
    world.apply(make(1))
    world.becomes_ready(seconds=120)
    (victim,) = serving(world, 1) or []
    with world.gateway() as base, ThreadPoolExecutor(24) as pool:
        url = f"{base}/{world.namespace}/tiny/v1"
        begun = [pool.submit(stream, url, STREAM) for _ in range(4)]
        silent = [pool.submit(ask_silently, url, 125) for _ in range(6)]
        large = [pool.submit(ask_at_length, url, 125) for _ in range(2)]
        world.eventually("it works on all of them", lambda: running(world, victim) == 12 or None, 30)
        world.when("a second replica comes, and streams to four others")
        world.client.kubectl("scale", "lld", "tiny", "-n", world.namespace, "--replicas=2")
        pods = world.eventually("two replicas serve", lambda: serving(world, 2), 60)
        (well,) = [pod for pod in pods if names([pod]) != names([victim])]
        others: list[Future[int]] = []
        while len(others) < 4:
            # The new replica has its full share only after a while; what goes to the other one is cut with the rest.
            on_it, on_both = running(world, well), running(world, well) + running(world, victim)
            one = pool.submit(stream, url, STREAM)

            def taken(more: int = on_both + 1) -> bool | None:
                return running(world, well) + running(world, victim) == more or None

            world.eventually("a stream more runs", taken, 30)
            (others if running(world, well) > on_it else begun).append(one)
        assert running(world, victim) == 8 + len(begun), "what was to be cut has ended before"
        shape = Shape("tiny", per_second=20, tokens=SHORT)
        with Load(url, shape) as load:
            world.eventually("clients ask", lambda: running(world, well) > 4 or None, 30)
            kill(world, victim)
            world.eventually("it was started again", lambda: restarted(world, victim), 60)
            outcome = load.outcome(60)
        results = {
            "streams that had begun": ended(begun),
            "answers that had not": ended(silent),
            "large questions": ended(large),
            "streams of the other one": ended(others),
        }
    for what, found in results.items():
        world.then(f"{what}: {found}")
    world.then(f"of {outcome.asked} short requests meanwhile {outcome.failed} failed")
    assert all(0 < tokens < STREAM for tokens in results["streams that had begun"])
    assert results["answers that had not"] == [OK] * 6
    assert results["large questions"] == [BAD_GATEWAY] * 2
    assert results["streams of the other one"] == [STREAM] * 4
    assert (outcome.failed, outcome.answered) == (0, outcome.asked), outcome.words


def restarted(world: World, pod: Object) -> bool | None:
    """Whether its engine runs again and is ready."""
    found = next((one for one in world.engine_pods() if names([one]) == names([pod])), None)
    assert found is not None
    status = next(item for item in found["status"]["containerStatuses"] if item["name"] == "engine")
    return (status["restartCount"] > 0 and is_ready(found)) or None


def ended(futures: list[Future[int]]) -> list[int]:
    """What became of requests, in order; -1 where the client raised an error without a status."""

    def one(future: Future[int]) -> int:
        try:
            return future.result(120)
        except openai.APIStatusError as error:
            return error.status_code
        except (openai.OpenAIError, AssertionError):
            return -1

    return [one(future) for future in futures]
