"""haproxy.cfg as text, valid on HAProxy 2.6 and 2.8.

What changes while the gateway runs stands in maps and in the servers of slots, which the runtime socket changes. The
rest is the same for all routes, and is read anew only when the pool of slots has to grow.
"""

import hashlib
from collections.abc import Iterable, Mapping

from nightshift.api.traffic import MAX_QUEUE_SECONDS
from nightshift.core.gateway import answers
from nightshift.core.gateway.log_line import LINE_BYTES, log_format
from nightshift.core.gateway.rules import identify, pinned_in_vain, released, route_request
from nightshift.core.gateway.settings import (
    ACTIVATOR_SOCKET,
    AGENT_SOCKET,
    BUFFER_BYTES,
    LOG_SOCKET,
    RELEASED_SOCKET,
    REWRITE_BYTES,
    RUNTIME_SOCKET,
    Settings,
)
from nightshift.core.gateway.slots import Kind, slot_name
from nightshift.core.gateway.state import Server

_METRICS_CONNECTIONS = 50
"""Kept for probes and scrapers, however many clients there are."""

_HOT_BYTES = 4 * 1024 * 1024
"""Of memory that each thread keeps for itself: 64 buffers, where HAProxy's own 512 KiB are 8. With fewer, threads pass
cold buffers to each other, which took a tenth of the processor time. (2.6 cannot be told.)"""

_RING_BYTES = 1024 * 1024
"""About 3,000 log lines, for an agent that is busy for a moment."""


def server_options(settings: Settings, server: Server) -> str:
    """What follows a server's address, in the configuration and in `add server` alike.

    `observe layer7` is the circuit breaker: ten failures in a row count as a failed health check. They do not take the
    replica out at once, for a request that makes engines fail would then take out one after the other.
    """
    return (
        f"weight {server.weight} maxconn {server.cap} "
        f"check inter {settings.check_milliseconds} fastinter 500 fall 3 rise 1 "
        f"slowstart {settings.slow_start_milliseconds} observe layer7 error-limit 10 on-error fail-check "
        f"pool-purge-delay {settings.purge_milliseconds}"
    )


def config(
    settings: Settings, pools: Mapping[Kind, int], servers: Mapping[str, Iterable[Server]], fingerprint: str
) -> str:
    """The whole configuration.

    Args:
        settings: Of this gateway.
        pools: Slots of each kind.
        servers: By slot, so that a process that starts from this file is at once in the state of the one before it.
        fingerprint: Of everything but the servers; told by `show info`, so that it is known what a process has read.
    """
    lines = [*_global(settings, fingerprint), *_observed(settings), *_defaults(settings)]
    for kind in sorted(pools):
        lines += _slot_defaults(kind)
    lines += _frontends(settings)
    lines += _fixed_backends(settings)
    for kind in sorted(pools):
        for index in range(pools[kind]):
            name = slot_name(kind, index)
            lines.append(f"backend {name} from slot_{kind.code}")
            lines += [
                f"    server {server.name} {server.address}:{server.port} {server_options(settings, server)}"
                for server in sorted(servers.get(name, ()), key=lambda server: server.name)
            ]
    return "\n".join(lines) + "\n"


def fingerprint(settings: Settings, pools: Mapping[Kind, int]) -> str:
    """Identifies everything that only a reload changes."""
    parts = [config(settings, pools, {}, ""), *(answers.error_files()[name] for name in sorted(answers.error_files()))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _global(settings: Settings, fingerprint: str) -> list[str]:
    return [
        "# Written by Nightshift's agent; edits are lost.",
        "global",
        f"    description nightshift-{fingerprint}",
        f"    log stdout len {LINE_BYTES} format raw local0 notice",
        f"    log ring@observed len {LINE_BYTES} format raw local0 info",
        f"    stats socket {settings.path(RUNTIME_SOCKET)} mode 600 level admin expose-fd listeners",
        "    stats timeout 1m",
        f"    hard-stop-after {settings.hard_stop_seconds}s",
        f"    maxconn {settings.max_connections + released_connections(settings) + _METRICS_CONNECTIONS}",
        f"    nbthread {settings.threads}",
        f"    tune.bufsize {BUFFER_BYTES}",
        f"    tune.maxrewrite {REWRITE_BYTES}",
        ".if version_atleast(2.8)",
        f"    tune.memory.hot-size {_HOT_BYTES}",
        ".endif",
    ]


def _observed(settings: Settings) -> list[str]:
    """What the agent counts: HAProxy writes into a ring in its memory, and drops lines that the agent does not take."""
    return [
        "ring observed",
        "    format raw",
        f"    maxlen {LINE_BYTES}",
        f"    size {_RING_BYTES}",
        "    timeout connect 2s",
        f"    server agent unix@{settings.path(LOG_SOCKET)}",
    ]


def _defaults(settings: Settings) -> list[str]:
    return [
        "defaults base",
        "    mode http",
        "    log global",
        "    option http-no-delay",
        "    option abortonclose",
        "    option redispatch 1",
        "    retries 3",
        "    retry-on conn-failure empty-response 500 503",
        f"    timeout connect {_ms(settings.connect_seconds)}",
        f"    timeout http-request {_ms(settings.request_seconds)}",
        "    timeout http-keep-alive 60s",
        f"    timeout client {_ms(settings.client_seconds)}",
        "    timeout client-fin 10s",
        f"    timeout server {_ms(settings.server_seconds)}",
        "    timeout check 5s",
        *(f"    errorfile {status} {settings.path(f'errors/{status}.http')}" for status in answers.STATUSES),
    ]


def _slot_defaults(kind: Kind) -> list[str]:
    balance = (
        ["    balance hash var(txn.affinity)", "    hash-type consistent", "    hash-balance-factor 125"]
        if kind.hashed
        else ["    balance leastconn"]
    )
    return [
        f"defaults slot_{kind.code} from base",
        *balance,
        f"    timeout queue {kind.queue_seconds}s",
        "    option httpchk GET /health",
        "    http-check expect status 200",
        "    http-request set-var(txn.waiting) queue",
        "    " + answers.QUEUE_FULL.rule("{ var(txn.props),field(4,|),sub(txn.waiting) le 0 }"),
    ]


def released_connections(settings: Settings) -> int:
    """Of requests that were held and are handed back: beside those of clients, or they would wait for each other.

    Worked example: with 4000 connections of clients 1000; further ones wait until one of these has its answer.
    """
    return max(1, settings.max_connections // 4)


def _frontends(settings: Settings) -> list[str]:
    common = ["option http-buffer-request", "option disable-h2-upgrade", f"log-format '{log_format()}'"]
    binds = [f"bind {bind}" for bind in settings.binds]
    main = [*binds, f"maxconn {settings.max_connections}", *common, *identify(settings), *route_request(settings)]
    main += ["use_backend be_activator if !usable", "use_backend %[var(txn.slot)]", "default_backend be_none"]
    # One thread takes what was held, or neighbours in the order of release would change places.
    again = [
        f"bind unix@{settings.path(RELEASED_SOCKET)} mode 600 thread 1",
        f"maxconn {released_connections(settings)}",
        *common,
        *released(),
        *route_request(settings),
    ]
    again += ["use_backend %[var(txn.slot)]", "default_backend be_none"]
    return [
        "frontend fe_main from base",
        *(f"    {line}" for line in main),
        "frontend fe_released from base",
        *(f"    {line}" for line in again),
        "frontend fe_metrics from base",
        f"    bind {settings.metrics_bind}",
        f"    maxconn {_METRICS_CONNECTIONS}",
        "    no log",
        "    http-request use-service prometheus-exporter if { path /metrics }",
        "    http-request return status 200 if { path /healthz }",
        "    http-request return status 404",
    ]


def _fixed_backends(settings: Settings) -> list[str]:
    return [
        "backend be_activator from base",
        "    retry-on conn-failure",
        f"    timeout server {_ms(MAX_QUEUE_SECONDS + settings.server_seconds)}",
        "    " + pinned_in_vain(settings),
        "    http-request set-header x-nightshift-route %[var(txn.route)]",
        "    http-request set-header x-nightshift-revision-slot %[var(txn.slot)]",
        f"    server activator unix@{settings.path(ACTIVATOR_SOCKET)}",
        "backend be_agent from base",
        "    retry-on conn-failure",
        "    timeout server 5s",
        "    timeout queue 5s",
        "    http-request set-header x-nightshift-route %[var(txn.route)] if { var(txn.route) -m found }",
        f"    server agent unix@{settings.path(AGENT_SOCKET)} maxconn 8",
        "backend be_none from base",
    ]


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
