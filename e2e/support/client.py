"""The cluster as a story sees it: kubectl with JSON in and out, and chats through a port-forward."""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import openai

from e2e.cluster import ClusterAccess

T = TypeVar("T")
Object = dict[str, Any]
Events = list[tuple[str, Object]]
"""What a watch saw: ADDED, MODIFIED or DELETED, and the object."""
FORWARD_SECONDS = 20.0


class WaitError(AssertionError):
    """Something did not come about in time; the message says what was last seen."""


def eventually(what: str, look: Callable[[], T | None], seconds: float, every: float = 0.5) -> T:
    """Look again and again until there is something; an assertion that fails counts as nothing.

    Raises:
        WaitError: Nothing came about in time.
    """
    deadline = time.monotonic() + seconds
    last = "nothing was seen"
    while True:
        try:
            found = look()
            if found is not None and found is not False:
                return found
        except (AssertionError, KubectlError) as error:
            last = str(error)
        if time.monotonic() > deadline:
            raise WaitError(f"not within {seconds:.0f} s: {what}; last: {last}")
        time.sleep(every)


class KubectlError(RuntimeError):
    """kubectl failed; the message is what it said."""


class Client:
    """One cluster."""

    def __init__(self, access: ClusterAccess) -> None:
        self.access = access

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl and return what it wrote."""
        command = [str(self.access.kubectl), *arguments]
        return self._run("kubectl", command, stdin, timeout)

    def helm(self, *arguments: str, stdin: str | None = None, timeout: float = 600) -> str:
        """Run helm and return what it wrote."""
        command = [str(self.access.helm), *arguments]
        return self._run("helm", command, stdin, timeout)

    def _run(self, name: str, command: list[str], stdin: str | None, timeout: float) -> str:
        environment = self.access.environment()
        said = f"{name} {' '.join(command[1:])}"
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"{said}: no answer within {timeout:.0f} s") from error
        if done.returncode != 0:
            raise KubectlError(f"{said}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def background(self, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """kubectl beside the block, which may ask whether it returned; ended with the block."""
        process = subprocess.Popen(
            [str(self.access.kubectl), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.access.environment(),
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()

    def apply(self, *manifests: Object) -> None:
        """Server-side apply, as GitOps tools do; as JSON, in which a commit of digits alone is no number."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    def get(self, kind: str, name: str, namespace: str) -> Object | None:
        """An object, or None."""
        text = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """All objects of some kinds in a namespace."""
        arguments = ["get", kind, "-n", namespace, "-o", "json"]
        if selector:
            arguments += ["-l", selector]
        items: list[Object] = json.loads(self.kubectl(*arguments))["items"]
        return items

    def raw(self, path: str, timeout: float = 20) -> str:
        """GET of a path of the API server, proxied ones included."""
        return self.kubectl("get", "--raw", path, timeout=timeout)

    @contextlib.contextmanager
    def following(self, kind: str, namespace: str, selector: str) -> Iterator[Callable[[], Events]]:
        """Everything that happens to some objects while the block lasts, in the API server's order.

        The block starts once the watch runs; calling what it is given reads the events so far, after the block those
        until its end.
        """
        arguments = ["get", kind, "-n", namespace, "-l", selector, "-o", "json", "--watch", "--output-watch-events"]
        last: list[Events] = []
        with tempfile.TemporaryFile("w+") as written:
            process = subprocess.Popen(
                [str(self.access.kubectl), *arguments], stdout=written, env=self.access.environment()
            )

            def events() -> Events:
                if last:
                    return last[0]
                if process.poll() is not None:
                    raise KubectlError(f"kubectl {' '.join(arguments)} ended by itself with {process.returncode}")
                size = os.fstat(written.fileno()).st_size
                return parse_events(os.pread(written.fileno(), size, 0).decode())

            try:
                eventually(f"the watch of {kind} runs", events, FORWARD_SECONDS)
                yield events
                last.append(events())
            finally:
                process.terminate()
                process.wait(10)

    @contextlib.contextmanager
    def forward(self, namespace: str, target: str, port: int) -> Iterator[str]:
        """A port-forward to a Service or pod for as long as the block lasts; its base URL."""
        with self.background("port-forward", "-n", namespace, target, f":{port}") as process:
            yield f"http://127.0.0.1:{_forwarded_port(process)}"

    def post(self, path: str, body: Object, timeout: float = 20) -> str:
        """POST to a path of the API server; kubectl names no content type, which engines want to know."""
        return self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body), timeout=timeout)

    @contextlib.contextmanager
    def reach(self, namespace: str, service: str, port: int) -> Iterator[str]:
        """A Service's base URL for as long as the block lasts.

        The local cluster's node is this machine, so its address leads to all pods of the Service, also to those that
        come later; elsewhere a port-forward leads to one of them.
        """
        if not self.access.local:
            with self.forward(namespace, f"service/{service}", port) as base:
                yield base
            return
        found = self.get("service", service, namespace)
        if found is None:
            raise KubectlError(f"there is no Service {service} in namespace {namespace}")
        yield f"http://{found['spec']['clusterIP']}:{port}"

    @contextlib.contextmanager
    def address(self, namespace: str, name: str) -> Iterator[str]:
        """A deployment's base URL for OpenAI's clients for as long as the block lasts.

        Its Service leads to the pods, or is another name of the gateway, which has no address of its own.
        """
        found = self.get("service", name, namespace)
        if found is None or "externalName" not in found["spec"]:
            with self.forward(namespace, f"service/{name}", 80) as base:
                yield f"{base}/v1"
            return
        service, place = str(found["spec"]["externalName"]).split(".")[:2]
        with self.reach(place, service, found["spec"]["ports"][0]["port"]) as base:
            yield f"{base}/{namespace}/{name}/v1"

    def chat(self, namespace: str, name: str, question: str, model: str | None = None) -> str:
        """Ask a deployment with the official client, by the address that its Service stands for."""
        with self.address(namespace, name) as base:
            direct = openai.DefaultHttpxClient(trust_env=False)  # the address is this machine's: no proxy knows it
            try:
                with openai.OpenAI(
                    base_url=base, api_key="none", max_retries=3, timeout=60, http_client=direct
                ) as client:
                    answer = client.chat.completions.create(
                        model=model or name,
                        messages=[{"role": "user", "content": question}],
                        temperature=0,
                        max_tokens=32,
                    )
            except openai.OpenAIError as error:
                raise KubectlError(f"the chat with {namespace}/{name} failed: {error}") from error
        return answer.choices[0].message.content or ""


def parse_events(text: str) -> Events:
    """Watch events as kubectl prints them, one JSON object after the other; a half-written last one is left out."""
    found: Events = []
    decoder, position = json.JSONDecoder(), 0
    while position < len(text):
        try:
            event, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            break
        found.append((str(event["type"]), event["object"]))
        position = len(text) - len(text[position:].lstrip())
    return found


def _forwarded_port(process: "subprocess.Popen[str]") -> int:
    found: list[int] = []
    said: list[str] = []

    def read() -> None:
        for line in process.stdout or ():
            said.append(line)
            match = re.search(r"127\.0\.0\.1:(\d+) ->", line)
            if match:
                found.append(int(match.group(1)))
                return

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + FORWARD_SECONDS
    while not found:
        if process.poll() is not None or time.monotonic() > deadline:
            raise KubectlError(f"kubectl port-forward gave no port: {''.join(said)}")
        time.sleep(0.05)
    return found[0]
