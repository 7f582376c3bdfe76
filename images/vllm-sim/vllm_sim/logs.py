"""vLLM's log lines on standard error, so that what reads a pod's log reads a simulated one the same."""

from __future__ import annotations

import argparse
import os
import sys
import time

from aiohttp import web


def line(process: str, source: str, message: str, level: str = "INFO") -> None:
    """One line in vLLM's format; `process` is APIServer or EngineCore, `source` the file it would come from."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    print(f"({process} pid={os.getpid()}) {level} {stamp} [{source}] {message}", file=sys.stderr, flush=True)


def access(request: web.Request, status: int, arguments: argparse.Namespace) -> None:
    """One line of the access log, unless the command line turns it off."""
    silent = (arguments.disable_access_log_for_endpoints or "").split(",")
    if arguments.disable_uvicorn_access_log or request.path in silent:
        return
    peer = request.transport.get_extra_info("peername") if request.transport else None
    client = f"{peer[0]}:{peer[1]}" if peer else "-"
    phrase = web.Response(status=status).reason
    print(
        f'INFO:     {client} - "{request.method} {request.path_qs} HTTP/1.1" {status} {phrase}',
        flush=True,
    )
