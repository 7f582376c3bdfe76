"""The metrics: which families with which labels and buckets, and that they move with the requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from e2e.contract.engine import Client
from e2e.contract.observe import Observation, headers
from e2e.contract.registry import case, require

Values = dict[str, float]
CHAT = "/v1/chat/completions"
COUNTERS = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    'vllm:request_success_total{finished_reason="stop"}',
    'vllm:request_success_total{finished_reason="length"}',
    'vllm:request_success_total{finished_reason="abort"}',
    "vllm:time_to_first_token_seconds_count",
    "vllm:inter_token_latency_seconds_count",
    "vllm:request_time_per_output_token_seconds_count",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:request_queue_time_seconds_count",
    "vllm:request_prompt_tokens_sum",
    "vllm:request_generation_tokens_sum",
    "vllm:request_params_n_sum",
    "vllm:request_params_n_count",
    "vllm:request_params_max_tokens_sum",
    "vllm:request_max_num_generation_tokens_sum",
    "vllm:iteration_tokens_total_sum",
    "vllm:prefix_cache_queries_total",
)


async def _scrape(client: Client) -> str:
    return (await client.get("/metrics")).text


async def _values(client: Client) -> Values:
    """Every sample, keyed by its name and the labels other than those that name the engine."""
    found: Values = {}
    for family in text_string_to_metric_families(await _scrape(client)):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name not in ("engine", "model_name")}
            inner = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
            found[f"{sample.name}{{{inner}}}" if inner else sample.name] = sample.value
    return found


async def _settled(client: Client, done: Callable[[Values], bool]) -> Values:
    """The values once `done` holds; the last ones read when it does not within ten seconds."""
    deadline = time.monotonic() + 10
    while True:
        values = await _values(client)
        if done(values) or time.monotonic() > deadline:
            return values
        await asyncio.sleep(0.1)


async def _moved(client: Client, work: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    """How far the counters moved over some work, once the engine has counted it."""
    before = await _values(client)
    await work()

    def counted(values: Values) -> bool:
        name = "vllm:e2e_request_latency_seconds_count"
        return values.get(name, 0) > before.get(name, 0) and values.get("vllm:num_requests_running") == 0

    after = await _settled(client, counted)
    return {name: after.get(name, 0.0) - before.get(name, 0.0) for name in COUNTERS if name in after}


@case("metrics.headers")
async def content_type(client: Client) -> Observation:
    """The content type that a scraper sees."""
    answer = await client.get("/metrics")
    return {"status": answer.status, "headers": headers(answer.headers)}


@case("metrics.families")
async def families(client: Client) -> Observation:
    """Every vllm: and http_ family with its type and labels, after one request."""
    await client.post(CHAT, client.chat_body(max_tokens=2))
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(await _scrape(client)):
        if family.name.startswith(("vllm:", "http_")) and family.name != "vllm:cache_config_info":
            labels = sorted({name for sample in family.samples for name in sample.labels})
            found[family.name] = {"type": family.type, "labels": ",".join(labels)}
    return found


@case("metrics.label-values")
async def label_values(client: Client) -> Observation:
    """Labels that enumerate have all their values from the start."""
    wanted = {"reason", "source", "finished_reason", "sleep_state", "engine", "model_name"}
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(await _scrape(client)):
        if family.name.startswith("vllm:"):
            for sample in family.samples:
                for name in wanted & set(sample.labels):
                    found.setdefault(f"{family.name}.{name}", set()).add(sample.labels[name])
    return {name: sorted(values) for name, values in sorted(found.items())}


@case("metrics.buckets")
async def buckets(client: Client) -> Observation:
    """The buckets of every vllm: histogram."""
    found: dict[str, str] = {}
    for family in text_string_to_metric_families(await _scrape(client)):
        if family.name.startswith("vllm:") and family.type == "histogram":
            bounds = dict.fromkeys(sample.labels["le"] for sample in family.samples if "le" in sample.labels)
            found[family.name] = " ".join(f"{float(bound):g}" for bound in bounds)
    return found


@case("metrics.cache-config")
async def cache_config(client: Client) -> Observation:
    """The configuration that cache_config_info carries in its labels."""
    values = await _values(client)
    name = next((name for name in values if name.startswith("vllm:cache_config_info{")), "{")
    labels = sorted(label.split("=")[0] for label in name.split("{")[1].split(",") if "=" in label)
    return {"labels": dict.fromkeys(labels, "present"), "value": values.get(name)}


@case("metrics.one-request")
async def one_request(client: Client) -> Observation:
    """One chat of six tokens: what each counter and histogram gains, in units of its prompt and answer."""
    used: dict[str, Any] = {}

    async def work() -> None:
        used.update((await client.post(CHAT, client.chat_body(max_tokens=6, ignore_eos=True))).json()["usage"])

    moved = await _moved(client, work)
    return {name: _in_units(value, used["prompt_tokens"]) for name, value in moved.items()}


def _in_units(value: float, prompt: int) -> Any:
    """Multiples of the prompt's length are named, so that tokenizers may differ."""
    for times in (1, 2):
        if value == times * prompt:
            return f"{times} x prompt"
        if value == times * prompt + 6:
            return f"{times} x prompt + 6"
    return value


@case("metrics.streamed-request")
async def streamed_request(client: Client) -> Observation:
    """A streamed chat counts as a whole one does."""
    used: dict[str, Any] = {}

    async def work() -> None:
        body = client.chat_body(max_tokens=6, ignore_eos=True, stream_options={"include_usage": True})
        used.update((await client.stream(CHAT, body)).events[-1]["usage"])

    moved = await _moved(client, work)
    return {name: _in_units(value, used["prompt_tokens"]) for name, value in moved.items()}


@case("metrics.two-choices")
async def two_choices(client: Client) -> Observation:
    """A chat with n=2 counts as two sequences."""
    used: dict[str, Any] = {}

    async def work() -> None:
        body = client.chat_body(n=2, temperature=1.0, seed=1, max_tokens=6, ignore_eos=True)
        used.update((await client.post(CHAT, body)).json()["usage"])

    moved = await _moved(client, work)
    wanted = {name: value for name, value in moved.items() if "iteration" not in name}
    return {name: _in_units(value, used["prompt_tokens"]) for name, value in wanted.items()}


@case("metrics.refused-request")
async def refused_request(client: Client) -> Observation:
    """A refused request moves no engine counter."""
    before = await _values(client)
    await client.post(CHAT, client.chat_body(max_tokens=-1))
    await client.post(CHAT, {**client.chat_body(), "model": "nobody"})
    after = await _values(client)
    return {name: after.get(name, 0.0) - before.get(name, 0.0) for name in COUNTERS if name in after}


@case("metrics.client-gone")
async def client_gone(client: Client) -> Observation:
    """A client that goes away frees its place; whether that counts as an abort."""
    before = await _values(client)
    async with client.open(CHAT, client.chat_body(ignore_eos=True, stream=True)) as response:
        await response.content.readline()
    after = await _settled(client, lambda values: values.get("vllm:num_requests_running") == 0)
    require(after.get("vllm:num_requests_running") == 0, "the place is free again")
    names = [name for name in COUNTERS if "request_success" in name or "e2e" in name]
    return {name: after.get(name, 0.0) - before.get(name, 0.0) for name in names}


@case("metrics.busy")
async def busy(client: Client) -> Observation:
    """More requests than the batch holds: running stays within the limit, the rest waits, all get answers."""
    limit = client.engine.max_num_seqs
    body = client.chat_body(max_tokens=150, ignore_eos=True)
    tasks = [asyncio.create_task(client.post(CHAT, body)) for _ in range(limit + 4)]
    running, waiting, usage = 0.0, 0.0, 0.0
    while not all(task.done() for task in tasks):
        values = await _values(client)
        running = max(running, values.get("vllm:num_requests_running", 0.0))
        waiting = max(waiting, values.get("vllm:num_requests_waiting", 0.0))
        usage = max(usage, values.get("vllm:kv_cache_usage_perc", 0.0))
        await asyncio.sleep(0.05)
    idle = await _settled(client, lambda values: values.get("vllm:num_requests_running") == 0)
    return {
        "statuses": sorted({task.result().status for task in tasks}),
        "running": running,
        "waited": waiting > 0,
        "used_cache": usage > 0,
        "idle_running": idle.get("vllm:num_requests_running"),
        "idle_waiting": idle.get("vllm:num_requests_waiting"),
        "idle_usage": idle.get("vllm:kv_cache_usage_perc"),
    }


@case("metrics.http")
async def http(client: Client) -> Observation:
    """The web server's own counters name handler, method and class of status; probes are not counted."""
    await client.get("/health")
    await client.get("/no/such/path")
    await client.post(CHAT, client.chat_body(max_tokens=1))
    names = [name for name in await _values(client) if name.startswith("http_requests_total")]
    wanted = ('handler="/v1/chat/completions",method="POST",status="2xx"', 'handler="none",method="GET",status="4xx"')
    return {
        **{label: any(label in name for name in names) for label in wanted},
        "health_uncounted": not any("/health" in name for name in names),
    }
