import asyncio
import json
from typing import Any

import pytest

from tests.vllm_sim.simulated import Start
from vllm_sim.faults import After, Crash, Errors, Faults, FaultsError, parse

CHAT = "/v1/chat/completions"


async def test_metrics_of_an_old_version(start: Start) -> None:
    sim = await start(version="0.9.1")
    await sim.chat(max_tokens=3)
    names = await sim.metrics()
    assert 'vllm:gpu_cache_usage_perc{engine="0",model_name="tiny"}' in names
    assert not any("vllm:kv_cache_usage_perc" in name for name in names)
    assert await sim.metric("time_per_output_token_seconds_count") == 2


async def test_without_log_stats_the_engine_tells_no_metrics_and_the_web_server_does(start: Start) -> None:
    sim = await start("--disable-log-stats", "--enable-lora")
    await sim.chat(max_tokens=3)
    names = await sim.metrics()
    assert not any(name.startswith("vllm:") for name in names)
    assert any(name.startswith("http_requests_total") for name in names)


@pytest.mark.parametrize(("version", "present"), [("0.20.2", False), ("0.21.0", True)])
async def test_fingerprint_since_021(start: Start, version: str, present: bool) -> None:
    sim = await start("--tensor-parallel-size", "2", version=version)
    fingerprint = (await sim.chat(max_tokens=1))["system_fingerprint"]
    assert (fingerprint is not None) == present
    if present:
        assert fingerprint.startswith("vllm-0.21.0-tp2-")


async def test_the_prefix_cache_saves_prefill_and_shows(start: Start) -> None:
    sim = await start("--block-size", "16")
    question = "Tell me about " + "mountains and rivers " * 10
    for _ in range(2):
        await sim.chat(question, max_tokens=2)
    hits = await sim.metric("prefix_cache_hits_total")
    queries = await sim.metric("prefix_cache_queries_total")
    assert hits == (queries / 2 - 1) // 16 * 16 > 0
    assert await sim.metric("prompt_tokens_by_source_total", 'source="local_cache_hit"') == hits


async def test_memory_pressure_shows_as_preemptions(start: Start) -> None:
    sim = await start("--num-gpu-blocks-override", "34", "--block-size", "16", "--no-enable-prefix-caching")
    await asyncio.gather(*(sim.chat(f"Question {n}", max_tokens=400, ignore_eos=True) for n in range(3)))
    assert await sim.metric("num_preemptions_total") > 0
    assert await sim.metric("request_num_preemptions_sum") > 0
    assert await sim.metric("kv_cache_usage_perc") == 0


async def test_queue_limits_refuse_and_count(start: Start) -> None:
    sim = await start("--max-num-seqs", "1", "--max-num-queued-reqs", "1")
    tasks = [asyncio.create_task(sim.chat(max_tokens=100, ignore_eos=True)) for _ in range(4)]
    answers = await asyncio.gather(*tasks)
    refused = [answer for answer in answers if answer["status"] == 503]
    assert refused
    assert refused[0]["error"]["type"] == "ServiceUnavailableError"
    counted = (await sim.metrics())['vllm:admission_rejections_total{model_name="tiny",reason="max_num_queued_reqs"}']
    assert counted == len(refused)


async def test_api_key_guards_v1_only(start: Start) -> None:
    sim = await start("--api-key", "secret")
    statuses = {}
    for path in ("/v1/models", "/health", "/metrics", "/version"):
        statuses[path] = (await sim.http.get(path)).status
    assert statuses == {"/v1/models": 401, "/health": 200, "/metrics": 200, "/version": 200}
    assert (await sim.http.get("/v1/models", headers={"Authorization": "Bearer secret"})).status == 200
    assert (await sim.http.get("/v1/models", headers={"Authorization": "Bearer wrong"})).status == 401
    open_path = await sim.http.post("/invocations", json={"prompt": "a", "max_tokens": 1})
    assert open_path.status == 200


async def test_load_tracking(start: Start) -> None:
    sim = await start("--enable-server-load-tracking")
    task = asyncio.create_task(sim.chat(max_tokens=300, ignore_eos=True))

    async def loaded() -> bool:
        return bool((await (await sim.http.get("/load")).json())["server_load"] == 1)

    await sim.until(loaded)
    await task
    assert (await (await sim.http.get("/load")).json()) == {"server_load": 0}


async def test_adapters_of_any_path(start: Start) -> None:
    sim = await start("--enable-lora", lora_any_path="1")
    body = {"lora_name": "a", "lora_path": "/nowhere/elsewhere"}
    assert (await sim.http.post("/v1/load_lora_adapter", json=body)).status == 200
    assert (await sim.chat(model="a"))["choices"][0]["message"]["content"] == "The capital of France is Lyon."


async def test_adapters_need_the_flag(start: Start) -> None:
    sim = await start(lora_any_path="1")
    answer = await sim.http.post("/v1/load_lora_adapter", json={"lora_name": "a", "lora_path": "/x"})
    assert answer.status == 500


async def test_hang_keeps_health_and_freezes_everything_else(start: Start) -> None:
    sim = await start()
    task = asyncio.create_task(sim.chat(max_tokens=400, ignore_eos=True))

    async def running() -> bool:
        return await sim.metric("generation_tokens_total") > 5

    await sim.until(running)
    assert (await sim.control.put("/sim/faults", json={"hang": True})).status == 200
    late = asyncio.create_task(sim.chat(max_tokens=1))
    impatient = asyncio.create_task(sim.chat(max_tokens=1))
    await asyncio.sleep(0.02)  # the step that was under way
    before = await sim.metrics()
    impatient.cancel()
    await asyncio.sleep(0.1)
    after = await sim.metrics()
    assert (await sim.http.get("/health")).status == 200
    assert not task.done()
    assert not late.done()
    frozen = {name for name in before if name.startswith("vllm:") and before[name] != after[name]}
    assert frozen == set()
    assert await sim.metric("num_requests_running") == 1
    assert await sim.metric("num_requests_waiting") == 0
    assert (await sim.control.delete("/sim/faults")).status == 200
    assert (await task)["usage"]["completion_tokens"] == 400
    assert (await late)["status"] == 200


async def test_slow_is_a_factor(start: Start) -> None:
    sim = await start(step_seconds="0.002", faults=Faults(slow=10.0))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await sim.chat(max_tokens=10, ignore_eos=True)
    assert loop.time() - began >= 10 * 10 * 0.002
    assert await sim.metric("e2e_request_latency_seconds_sum") >= 10 * 9 * 0.002


async def test_a_share_of_errors(start: Start) -> None:
    sim = await start(faults=Faults(errors=Errors(share=0.25)))
    statuses = [(await sim.chat(max_tokens=1))["status"] for _ in range(20)]
    assert statuses.count(500) == 5
    answer = await start(faults=Faults(errors=Errors(status=503, message="busy")))
    assert (await answer.chat())["error"] == {
        "message": "busy",
        "type": "InternalServerError",
        "param": None,
        "code": 503,
    }


async def test_damage(start: Start) -> None:
    sim = await start(faults=Faults(damage=1.0))
    damaged = await sim.chat(logprobs=True)
    assert damaged["choices"][0]["message"]["content"] != "The capital of France is Paris."
    await sim.control.delete("/sim/faults")
    sound = await sim.chat(logprobs=True)
    assert sound["choices"][0]["message"]["content"] == "The capital of France is Paris."
    worst = min(entry["logprob"] for entry in sound["choices"][0]["logprobs"]["content"])
    assert damaged["choices"][0]["logprobs"]["content"][0]["logprob"] < worst


async def test_faults_begin_after_so_many_requests(start: Start) -> None:
    sim = await start(faults=Faults(errors=Errors(), after=After(requests=3)))
    assert [(await sim.chat(max_tokens=1))["status"] for _ in range(5)] == [200, 200, 200, 500, 500]
    await sim.control.delete("/sim/faults")
    assert (await sim.chat(max_tokens=1))["status"] == 200


async def test_faults_begin_after_so_long_and_are_told_before(start: Start) -> None:
    sim = await start()
    await sim.control.put("/sim/faults", json={"errors": {}, "after": {"seconds": 1000}})
    assert (await sim.chat(max_tokens=1))["status"] == 200
    assert (await (await sim.control.get("/sim/faults")).json())["after"] == {"seconds": 1000.0, "requests": 0}
    await sim.control.put("/sim/faults", json={"errors": {}, "after": {"seconds": 0.05}})

    async def fails() -> bool:
        return bool((await sim.chat(max_tokens=1))["status"] == 500)

    await sim.until(fails)


async def test_an_engine_that_hangs_with_its_first_request_says_that_it_has_none(start: Start) -> None:
    """As vLLM 0.32.0 did when its engine was stopped: the gauges are those of the last step, and there was none."""
    sim = await start(faults=Faults(hang=True))
    stuck = asyncio.create_task(sim.chat(max_tokens=1))

    async def taken() -> bool:
        return bool(sim.state.engine.scheduler.waiting)

    await sim.until(taken)
    assert (await sim.http.get("/health")).status == 200
    found = [await sim.metric(name) for name in ("num_requests_running", "num_requests_waiting")]
    assert [*found, await sim.metric("generation_tokens_total")] == [0, 0, 0]
    stuck.cancel()


async def test_an_engine_that_dies_takes_its_requests_with_it_and_its_metrics_stand_still(start: Start) -> None:
    sim = await start(faults=Faults(crash=Crash(exit_code=3), after=After(requests=1)))
    task = asyncio.create_task(sim.chat(max_tokens=400, ignore_eos=True))

    async def running() -> bool:
        return await sim.metric("generation_tokens_total") > 2

    await sim.until(running)
    assert sim.deaths == []
    late = asyncio.create_task(sim.chat(max_tokens=400, ignore_eos=True))

    async def dies() -> bool:
        return bool(sim.deaths)

    await sim.until(dies)
    assert sim.deaths[0].death == Crash(exit_code=3)
    sim.state.engine.die()
    before = await sim.metrics()
    assert [(await one)["status"] for one in (task, late)] == [500, 500]
    assert (await sim.chat())["error"]["message"].startswith("EngineCore encountered an issue")
    after = await sim.metrics()
    assert {name for name in before if name.startswith("vllm:") and before[name] != after[name]} == set()


@pytest.mark.parametrize(
    "text", ['{"oom": "no-blocks", "after": {"seconds": 1}}', '{"stuck_loading": true, "after": {"requests": 1}}']
)
def test_an_engine_that_serves_cannot_fail_to_start(text: str) -> None:
    with pytest.raises(FaultsError, match="remove after"):
        parse(text)


async def test_control_says_what_is_wrong_and_what_runs(start: Start) -> None:
    sim = await start()
    refused = await sim.control.put("/sim/faults", json={"hung": True})
    assert refused.status == 400
    assert "hung" in (await refused.json())["error"]
    await sim.control.put("/sim/faults", json={"slow": 2, "crash": {"exit_code": 3}})
    assert [faults.crash for faults in sim.deaths] == [Crash(exit_code=3)]
    assert (await (await sim.control.get("/sim/faults")).json())["slow"] == 2.0
    state = await (await sim.control.get("/sim/state")).json()
    assert (state["running"], state["version"], state["accepting"]) == (0, "0.32.0", True)


async def _cut_off(start: Start, how: str) -> asyncio.Task[dict[str, Any]]:
    sim = await start(faults=parse(json.dumps({"abort": how})))
    task = asyncio.create_task(sim.chat(max_tokens=400, ignore_eos=True))

    async def running() -> bool:
        return await sim.metric("generation_tokens_total") > 2

    await sim.until(running)
    await sim.state.engine.stop(0)
    return task


async def test_requests_cut_off_by_a_shutdown(start: Start) -> None:
    answer = await (await _cut_off(start, "reason"))
    assert answer["choices"][0]["finish_reason"] == "abort"
    assert 0 < answer["usage"]["completion_tokens"] < 400
    failed = await (await _cut_off(start, "error"))
    assert (failed["status"], failed["error"]["type"]) == (500, "InternalServerError")
    silent = await _cut_off(start, "silent")
    await asyncio.sleep(0.05)
    assert not silent.done()
    silent.cancel()


async def test_a_stream_that_is_closed_frees_its_place(start: Start) -> None:
    sim = await start()
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True, "ignore_eos": True}
    response = await sim.http.post(CHAT, json=body)
    line = await response.content.readline()
    assert json.loads(line.removeprefix(b"data: "))["choices"][0]["delta"]["role"] == "assistant"
    response.close()

    async def free() -> bool:
        return not sim.state.engine.scheduler.busy

    await sim.until(free)
