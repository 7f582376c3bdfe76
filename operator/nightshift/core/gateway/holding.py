"""The rules of holding requests while a deployment has no replica that could take them.

Times are seconds of one monotonic clock, sizes are bytes.
"""

from math import ceil

from nightshift.api.gateway_state import RouteState
from nightshift.core.gateway.refusals import Refusal, Why

COMMENT_SECONDS = 10.0
"""A streaming client gets a comment so often: shorter than any usual idle timeout of what lies between. Up to the
first one it can still get the engine's own status."""

OVERHEAD_BYTES = 32 * 1024
"""What a held request costs beside its body: connection, headers, task. Measured by bench/activator.py."""

BODY_SECONDS = 30.0
"""A body that takes longer to arrive is given up: it would keep a place from others."""

DEFAULT_START_SECONDS = 60
"""Assumed of a start that nobody has seen yet."""

LEAST_RETRY_SECONDS = 5
"""Nobody is asked back sooner: also not when a start takes longer than usual."""

ELSEWHERE_RETRY_SECONDS = 1
"""For those whom another gateway pod can take at once."""

MOST_FORWARDS = 3
"""So often a request is sent on before its last failure is the answer. HAProxy tries several replicas each time."""

FORWARD_PAUSE_SECONDS = 0.5
"""Times the failures so far: for so long a deployment's queue stands still after one."""

IN_FLIGHT_SECONDS = 10.0
"""What was said of requests in flight is too old then: nothing is known."""

SAMPLED_SECONDS = 0.25
"""The agent counts requests in flight at most so long before it writes the file."""


def share(limit: int, members: int) -> int:
    """One gateway pod's part of a limit that holds for all of them, rounded up.

    Worked example: 200 requests over 3 pods are 67 each.
    """
    return ceil(limit / max(1, members))


def retry_after(typical: float | None, waited: float) -> int:
    """When a start under way should be over, in whole seconds from now.

    Worked example: a start that typically takes 82 s and began 30.5 s ago is over in 52 s; one that should have been
    over is asked about again in 5 s.

    Args:
        typical: How long a start takes, or None where nobody has seen one.
        waited: For how long the oldest request has been waiting.
    """
    left = (DEFAULT_START_SECONDS if typical is None else typical) - waited
    return max(LEAST_RETRY_SECONDS, ceil(left))


def standing(key: str, state: RouteState | None) -> Refusal | None:
    """Why nothing is held for a deployment as it stands, or None.

    A failed start matters only while nothing serves: with a usable replica it is somebody else's trouble.

    Args:
        key: NAMESPACE/NAME as the request came with it.
        state: What is known of the route; None where there is none.
    """
    if state is None:
        return unknown(key)
    if state.route.state == "Off":
        message = f"{key} is switched off (spec.replicas is 0). Somebody has to set its replicas to 1 or more."
        return Refusal(Why.OFF, 503, message)
    failure = state.route.start.failure
    if failure is not None and not state.usable_servers:
        return Refusal(Why.START_FAILED, 503, f"{key} cannot start: {failure.reason}. {failure.message}".strip())
    return None


def admission(state: RouteState, *, held: int, members: int, size: int, free: int, again: int) -> Refusal | None:
    """Why a request may not wait, or None.

    Args:
        state: Its route, for which requests are held.
        held: Requests of the route that wait already.
        members: Gateway pods that share the limit.
        size: What it needs of the budget; its body counts as far as it is announced.
        free: What is left of the budget.
        again: Seconds after which another try may succeed.
    """
    key = f"{state.route.namespace}/{state.route.name}"
    limit = state.route.limits.body_bytes
    if limit is not None and size - OVERHEAD_BYTES > limit:
        return too_large(key, limit)
    most = share(state.route.queue.max_requests, members)
    if held >= most:
        message = (
            f"{key} has no replica that could answer, and {held} requests wait for one already; more may not "
            f"(traffic.queue.maxRequests). Try again in {again} s."
        )
        return Refusal(Why.QUEUE_FULL, 429, message, again)
    if size > free:
        return no_memory(key, again)
    return None


def unknown(key: str) -> Refusal:
    """The answer to a request for a deployment that the agent has not told of, or that is gone."""
    message = f"There is no deployment {key} here. If it was made just now, try again."
    return Refusal(Why.UNKNOWN_ROUTE, 404, message, ELSEWHERE_RETRY_SECONDS)


def too_large(key: str, limit: int) -> Refusal:
    """The refusal of a body over the deployment's own limit."""
    message = f"The body is larger than the {limit} bytes that {key} accepts. Send less in one request."
    return Refusal(Why.TOO_LARGE, 413, message)


def no_memory(key: str, again: int) -> Refusal:
    """The refusal of a request that the byte budget has no room for."""
    message = (
        f"{key} has no replica that could answer, and the gateway has no memory left to keep the request until one "
        f"can. Try again in {again} s."
    )
    return Refusal(Why.NO_MEMORY, 429, message, again)


def slow_body(key: str) -> Refusal:
    """The refusal of a request that did not arrive in time."""
    message = f"The request to {key} did not arrive within {BODY_SECONDS:.0f} s. Check the connection and try again."
    return Refusal(Why.SLOW_BODY, 408, message, ELSEWHERE_RETRY_SECONDS)


def timed_out(key: str, waited: float, again: int) -> Refusal:
    """The answer to a request that waited for as long as it may; the start goes on."""
    message = (
        f"{key} had no replica that could answer within {waited:.0f} s (traffic.queue.timeoutSeconds). Its start goes "
        f"on; try again in {again} s."
    )
    return Refusal(Why.TIMED_OUT, 503, message, again)


def not_forwarded(key: str, again: int) -> Refusal:
    """The answer to a request that could not be handed to a replica again and again."""
    message = f"The replicas of {key} did not take the request in {MOST_FORWARDS} tries. Try again in {again} s."
    return Refusal(Why.NOT_FORWARDED, 503, message, again)


def stopping(key: str) -> Refusal:
    """The answer to a request whose gateway pod is about to end; another one takes it."""
    message = f"{key} has no replica yet, and this gateway pod is being stopped. Try again at once: another one is up."
    return Refusal(Why.STOPPING, 503, message, ELSEWHERE_RETRY_SECONDS)


def others_in_flight(in_flight: int | None, age: float, counted: int) -> int:
    """Requests in flight at a route's replicas that did not wait here.

    Args:
        in_flight: All of them as last counted; None where unknown.
        age: Seconds since.
        counted: Those that had waited here and are part of that count.
    """
    if in_flight is None or age > IN_FLIGHT_SECONDS:
        return 0
    return max(0, in_flight - counted)


def room(state: RouteState, others: int, own: int) -> int:
    """How many requests may be released now.

    Where nothing is known of others, what was released from here is the only bound; HAProxy queues what is too much.

    Args:
        state: The route, with what its usable replicas take at once.
        others: Requests in flight there that did not wait here.
        own: Requests that were released from here and are not answered in full.
    """
    if not state.usable_servers:
        return 0
    return max(0, state.capacity - others - own)


def pause_after_failure(forwards: int) -> float | None:
    """For how long nothing is released after a request could not be handed over, in seconds; None: give it up.

    Args:
        forwards: How often it was sent on.
    """
    return None if forwards >= MOST_FORWARDS else FORWARD_PAUSE_SECONDS * forwards
