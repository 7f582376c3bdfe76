"""Chat and text completions, streamed and whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from aiohttp import web

from vllm_sim import replies, text
from vllm_sim.answers import Model
from vllm_sim.engine import EngineStoppedError, QueueFullError, Ticket, Work
from vllm_sim.errors import ApiError, bad_request, internal, json_response
from vllm_sim.faults import ENGINE_DEAD
from vllm_sim.generation import Generation, Limits, plan
from vllm_sim.protocol import ChatRequest, CompletionRequest, Sampling, check_sampling
from vllm_sim.replies import Heading
from vllm_sim.state import STATE, State


@dataclass(frozen=True)
class Job:
    """One choice of an answer: what to say, and its place in the engine."""

    index: int
    prompt: str
    prompt_tokens: list[int]
    model: Model
    generation: Generation
    ticket: Ticket


def content_text(content: object) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def chat_prompt(messages: list[dict[str, Any]]) -> str:
    """The rendered prompt of a chat."""
    return text.render_chat([(str(m.get("role", "user")), content_text(m.get("content"))) for m in messages])


async def chat(request: web.Request, body: ChatRequest) -> web.StreamResponse:
    """Answer ``POST /v1/chat/completions``."""
    state = request.app[STATE]
    name, model = state.model(body.model)
    state.fail_by_chance()
    if not body.messages:
        raise bad_request("Cannot apply chat template to an empty conversation. Provide at least one message.")
    top = (body.top_logprobs or 0) if body.logprobs else None
    prompt = chat_prompt(body.messages)
    tokens = state.tokenize(prompt)
    parameter = "max_completion_tokens" if body.max_completion_tokens is not None else "max_tokens"
    limit = state.output_limit(prompt, tokens, body.limit, parameter)
    check_sampling(body, limit, state.arguments.max_logprobs, top)
    jobs = _submit(state, body, model, [(prompt, tokens, limit)])
    head = replies.heading("chatcmpl", request.headers.get("X-Request-Id"), name, state.fingerprint)
    shape = ChatShape(body, top)
    return await _answer(request, body, head, jobs, shape)


async def completion(request: web.Request, body: CompletionRequest) -> web.StreamResponse:
    """Answer ``POST /v1/completions``."""
    state = request.app[STATE]
    name, model = state.model(body.model)
    state.fail_by_chance()
    if body.suffix:
        raise ApiError(
            400, "BadRequestError", "suffix is only supported for models with FIM completion rendering", "suffix"
        )
    prompts: list[tuple[str, list[int], int]] = []
    for prompt, known in _prompts(body):
        tokens = state.tokenize(prompt) if known is None else known
        given = prompt if known is None else None
        limit = state.output_limit(given, tokens, body.max_tokens, "max_tokens")
        check_sampling(body, limit, state.arguments.max_logprobs, body.logprobs)
        prompts.append((prompt, tokens, limit))
    if not prompts:
        raise bad_request("You must pass at least one prompt")
    jobs = _submit(state, body, model, prompts)
    head = replies.heading("cmpl", request.headers.get("X-Request-Id"), name, state.fingerprint)
    return await _answer(request, body, head, jobs, CompletionShape(body))


def _prompts(body: CompletionRequest) -> list[tuple[str, list[int] | None]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [(prompt, None)]
    found: list[tuple[str, list[int] | None]] = []
    numbers = [item for item in prompt or [] if isinstance(item, int)]
    if numbers:
        return [(text.decode(numbers), numbers)]
    for item in prompt or []:
        if isinstance(item, str):
            found.append((item, None))
        elif isinstance(item, list):
            found.append((text.decode(item), list(item)))
    return found


def _submit(state: State, body: Sampling, model: Model, prompts: list[tuple[str, list[int], int]]) -> list[Job]:
    jobs: list[Job] = []
    count = body.n or 1
    try:
        for prompt, tokens, limit in prompts:
            if not tokens:
                raise bad_request("The decoder prompt cannot be empty")
            limits = Limits(limit, body.min_tokens, body.ignore_eos, body.stops, body.include_stop_str_in_output)
            for copy in range(count):
                # Copies differ as samples do, except at temperature 0, where real engines repeat themselves.
                seed = (body.seed or 0) + (copy if body.temperature != 0 else 0)
                generation = plan(prompt, model, limits, seed=seed)
                work = Work(tokens, generation.tokens, generation.finish_reason, limit, model.adapter.partition(" ")[0])
                ticket = state.engine.submit(work)
                jobs.append(Job(len(jobs), prompt, tokens, model, generation, ticket))
    except EngineStoppedError as error:
        _drop(state, jobs)
        raise internal(str(error)) from error
    except QueueFullError as error:
        _drop(state, jobs)
        state.engine.metrics.add("admission_rejections", 1, error.reason)
        raise ApiError(503, "ServiceUnavailableError", str(error)) from error
    return jobs


def _record_whole(state: State, jobs: list[Job], copies: int) -> None:
    """Record what vLLM counts once per prompt, when all its copies are done."""
    for start in range(0, len(jobs), copies):
        longest = max(len(job.generation.tokens) for job in jobs[start : start + copies])
        state.engine.metrics.observe("request_max_num_generation_tokens", [longest])
        state.engine.metrics.observe("request_params_n", [copies])


def _drop(state: State, jobs: list[Job]) -> None:
    for job in jobs:
        state.engine.abort(job.ticket)


class ChatShape:
    """The chat form of choices and chunks."""

    kind = "chat.completion.chunk"

    def __init__(self, body: ChatRequest, top: int | None) -> None:
        self._top = top
        self._echo = bool(body.echo)

    def logprobs(self, job: Job, positions: list[int]) -> dict[str, Any] | None:
        """Log probabilities, when asked for."""
        if self._top is None:
            return None
        return replies.chat_logprobs(job.prompt, job.model, job.generation, positions, self._top)

    first_event: ClassVar[dict[str, Any]] = {"prompt_token_ids": None, "prompt_text": None}

    def usage(self, prompt: int, count: int) -> dict[str, Any]:
        """Usage within a stream."""
        return {**replies.brief_usage(prompt, count), "completion_tokens_details": None}

    def opening(self, job: Job) -> dict[str, Any] | None:
        """The chunk that starts a choice: the role."""
        delta = {"role": "assistant", "content": ""}
        return {"index": job.index, "delta": delta, "logprobs": None, "finish_reason": None}

    def step(self, job: Job, position: int, finish: str | None) -> dict[str, Any]:
        """The chunk of one token."""
        choice: dict[str, Any] = {
            "index": job.index,
            "delta": {"content": job.generation.deltas[position]},
            "logprobs": self.logprobs(job, [position]),
            "finish_reason": finish,
        }
        if finish is not None:
            choice["stop_reason"] = job.generation.stop_reason
        return {**choice, "token_ids": None}

    def aborted(self, job: Job) -> dict[str, Any]:
        """The chunk that ends an aborted choice."""
        rest = {"logprobs": None, "finish_reason": "abort", "stop_reason": None, "token_ids": None}
        return {"index": job.index, "delta": {"content": ""}, **rest}

    def whole(self, head: Heading, jobs: list[Job], prompt: int, completion_tokens: int) -> dict[str, Any]:
        """The whole body."""
        choices = [
            replies.chat_choice(
                job.index,
                job.generation.text,
                self.logprobs(job, list(range(len(job.generation.tokens)))),
                job.generation.finish_reason,
                job.generation.stop_reason,
            )
            for job in jobs
        ]
        return replies.chat_body(head, choices, prompt, completion_tokens)


class CompletionShape:
    """The completion form of choices and chunks."""

    kind = "text_completion"

    def __init__(self, body: CompletionRequest) -> None:
        self._top = body.logprobs
        self._echo = bool(body.echo)

    def logprobs(self, job: Job, positions: list[int]) -> dict[str, Any] | None:
        """Log probabilities, when asked for."""
        if self._top is None:
            return None
        offset = sum(len(text.piece(job.generation.tokens[i])) for i in range(positions[0])) if positions else 0
        return replies.completion_logprobs(job.prompt, job.model, job.generation, positions, self._top, offset)

    first_event: ClassVar[dict[str, Any]] = {}

    def usage(self, prompt: int, count: int) -> dict[str, Any]:
        """Usage within a stream."""
        return replies.brief_usage(prompt, count)

    def opening(self, job: Job) -> dict[str, Any] | None:
        """Completions start with their first token."""
        return None

    def step(self, job: Job, position: int, finish: str | None) -> dict[str, Any]:
        """The chunk of one token."""
        echoed = job.prompt if self._echo and position == 0 else ""
        return {
            "index": job.index,
            "text": echoed + job.generation.deltas[position],
            "logprobs": self.logprobs(job, [position]),
            "finish_reason": finish,
            "stop_reason": job.generation.stop_reason if finish is not None else None,
            "prompt_token_ids": None,
            "token_ids": None,
        }

    def aborted(self, job: Job) -> dict[str, Any]:
        """The chunk that ends an aborted choice."""
        rest = {"logprobs": None, "finish_reason": "abort", "stop_reason": None, "token_ids": None}
        return {"index": job.index, "text": "", "prompt_token_ids": None, **rest}

    def whole(self, head: Heading, jobs: list[Job], prompt: int, completion_tokens: int) -> dict[str, Any]:
        """The whole body."""
        choices = [
            replies.completion_choice(
                job.index,
                (job.prompt if self._echo else "") + job.generation.text,
                self.logprobs(job, list(range(len(job.generation.tokens)))),
                job.generation.finish_reason,
                job.generation.stop_reason,
            )
            for job in jobs
        ]
        return replies.completion_body(head, choices, prompt, completion_tokens)


Shape = ChatShape | CompletionShape


def _prompt_count(jobs: list[Job], copies: int) -> int:
    """Prompt tokens of all prompts, each counted once however many copies were asked for."""
    return sum(len(job.prompt_tokens) for job in jobs[::copies])


async def _answer(
    request: web.Request, body: Sampling, head: Heading, jobs: list[Job], shape: Shape
) -> web.StreamResponse:
    state = request.app[STATE]
    try:
        if body.stream:
            return await _stream(request, body, head, jobs, shape)
        jobs = list(await asyncio.gather(*(_exhaust(job) for job in jobs)))
        _record_whole(state, jobs, body.n or 1)
    finally:
        _drop(state, jobs)
    total = sum(len(job.generation.tokens) for job in jobs)
    return json_response(shape.whole(head, jobs, _prompt_count(jobs, body.n or 1), total))


async def _exhaust(job: Job) -> Job:
    """Wait for all tokens; the job as it ended."""
    count = 0
    async for position in job.ticket.tokens():
        count = position + 1
    if job.ticket.failed:
        raise internal(ENGINE_DEAD)
    return replace(job, generation=job.generation.cut(count)) if job.ticket.aborted else job


async def _stream(
    request: web.Request, body: Sampling, head: Heading, jobs: list[Job], shape: Shape
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    response.enable_chunked_encoding()
    opened = False
    prompt = _prompt_count(jobs, body.n or 1)
    counts = [0] * len(jobs)
    async for index, position in _merge(jobs):
        if not opened:
            await response.prepare(request)
            opened = True
            for job in jobs:
                if (choice := shape.opening(job)) is not None:
                    more = {**_running(body, shape, prompt, 0), **shape.first_event}
                    await response.write(replies.chunk(head, shape.kind, [choice], **more))
        job = jobs[index]
        if job.ticket.failed:
            await response.write(replies.error_event(internal(ENGINE_DEAD).body()))
            break
        if position is None:
            await response.write(replies.chunk(head, shape.kind, [shape.aborted(job)]))
            continue
        counts[index] += 1
        last = position == len(job.generation.tokens) - 1
        choice = shape.step(job, position, job.generation.finish_reason if last else None)
        more = _running(body, shape, prompt, counts[index])
        if last and not body.wants_usage and head.fingerprint is not None:
            more["system_fingerprint"] = head.fingerprint
        await response.write(replies.chunk(head, shape.kind, [choice], **more))
    else:
        _record_whole(request.app[STATE], jobs, body.n or 1)
        if body.wants_usage:
            closing = {"usage": replies.brief_usage(prompt, sum(counts)), "system_fingerprint": head.fingerprint}
            await response.write(replies.chunk(head, shape.kind, [], **closing))
    await response.write(replies.DONE)
    await response.write_eof()
    return response


def _running(body: Sampling, shape: Shape, prompt: int, count: int) -> dict[str, Any]:
    return {"usage": shape.usage(prompt, count)} if body.wants_running_usage else {}


async def _merge(jobs: list[Job]) -> AsyncIterator[tuple[int, int | None]]:
    """Tokens of all choices, as choice and position, in the order they come; no position: it was aborted."""
    arrived: asyncio.Queue[tuple[int, int | None] | None] = asyncio.Queue()

    async def follow(job: Job) -> None:
        async for position in job.ticket.tokens():
            await arrived.put((job.index, position))
        if job.ticket.aborted:
            await arrived.put((job.index, None))
        await arrived.put(None)

    tasks = [asyncio.create_task(follow(job)) for job in jobs]
    left = len(jobs)
    try:
        while left:
            item = await arrived.get()
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
