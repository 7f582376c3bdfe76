"""Asking models as users do: OpenAI's own client, and curl."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai

CURL_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What curl got."""

    status: int
    headers: dict[str, str]
    """Names in small letters."""
    text: str

    @property
    def body(self) -> Any:
        """As JSON."""
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        """The error, in the shape of OpenAI's; anything else fails the story."""
        error: dict[str, Any] = self.body["error"]
        assert set(error) >= {"message", "type", "param", "code"}, self.text
        return error


@contextmanager
def official(base_url: str, headers: Mapping[str, str] | None = None) -> Iterator[openai.OpenAI]:
    """OpenAI's client, without its own retries, which would hide failures.

    Args:
        base_url: Of the API, with /v1.
        headers: That go with every request.
    """
    direct = openai.DefaultHttpxClient(trust_env=False)  # the address is in this machine's network: no proxy knows it
    with openai.OpenAI(
        base_url=base_url,
        api_key="none",
        max_retries=0,
        timeout=120,
        http_client=direct,
        default_headers=headers,
    ) as client:
        yield client


def curl(url: str, body: Any = None, *options: str) -> Answer:
    """What curl gets: POST where there is a body (JSON, unless it is text already), else GET."""
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(CURL_SECONDS), "--include"]
    command += ["--http1.1", "--header", "Expect:", *options]
    data = None
    if body is not None:
        data = body if isinstance(body, str) else json.dumps(body)
        command += ["--header", "Content-Type: application/json", "--data-binary", "@-"]
    done = subprocess.run([*command, url], input=data, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"curl {url}: {done.stderr.strip()}"
    return parse_answer(done.stdout)


def parse_answer(text: str) -> Answer:
    """What `curl --include` writes."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, body)
