"""An API server of a few lines, to see what goes over the wire."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from nightshift.adapters.kube import KubeClient

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeApi:
    """Answers as a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[web.Response | Answer] = []
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        text = await request.text()
        self.bodies.append(json.loads(text) if text else None)
        answer = self.answers.pop(0)
        return answer if isinstance(answer, web.Response) else await answer(request)

    def says(self, value: Any, status: int = 200) -> None:
        self.answers.append(web.json_response(value, status=status))

    def refuses(self, status: int, reason: str = "", message: str = "") -> None:
        self.says({"kind": "Status", "status": "Failure", "reason": reason, "message": message}, status)


def client_for(url: str) -> KubeClient:
    configuration = Configuration()
    configuration.host = url
    return KubeClient(ApiClient(configuration))
