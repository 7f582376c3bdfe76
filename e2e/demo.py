"""`make demo`: from nothing to a chat answer of real vLLM, served by a pod that Nightshift made."""

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import yaml

from e2e.cluster import ClusterError, Settings
from e2e.setup import DEMO_IMAGES, install_everything, prepare, say
from e2e.support.client import Client, KubectlError, WaitError, eventually
from e2e.support.install import restricted_namespace
from e2e.support.lane import ROOT, StepError
from tools.transcript import WRITTEN

NAMESPACE = "nightshift-demo"
EXAMPLE = ROOT / "examples" / "tiny.yaml"
QUESTION = "What is the capital of France?"
EXPECTED = "The capital of France is Paris."
READY_SECONDS = 600
TIMES = "demo-times.json"


def _watch(client: Client, name: str) -> bool | None:
    """Print the reason when it changes; True once Ready."""
    found = client.get("llmdeployment", name, NAMESPACE) or {}
    conditions = {item["type"]: item for item in found.get("status", {}).get("conditions", [])}
    ready = conditions.get("Ready")
    if ready is None or found["status"].get("observedGeneration") != found["metadata"]["generation"]:
        return None
    text = f"{ready['reason']}: {ready['message']}"
    if text != _watch.__dict__.get("last"):
        _watch.__dict__["last"] = text
        say(f"  {text}")
    return True if ready["status"] == "True" else None


def demo() -> int:
    """Run the demo; 0 when the answer was right."""
    times: dict[str, float] = {}
    started = last = time.monotonic()

    def mark(step: str) -> None:
        nonlocal last
        now = time.monotonic()
        times[step], last = round(now - last, 1), now

    client = prepare("make demo", DEMO_IMAGES)
    mark("cluster and images")
    with transcript() as lines:
        name, answer = serve(client, mark)
    times["in all"] = round(time.monotonic() - started, 1)
    Settings(client.access.home).make_home()
    Path(client.access.home, TIMES).write_text(json.dumps(times, indent=1))
    say("times in seconds: " + ", ".join(f"{step} {seconds}" for step, seconds in times.items()))
    if answer.strip() != EXPECTED:
        say(f"that is not the expected answer: {EXPECTED}")
        return 1
    Path(client.access.home, WRITTEN).write_text("".join(lines))
    kubeconfig = client.access.kubeconfig
    say(f"Look around: KUBECONFIG={kubeconfig} {client.access.kubectl} describe lld -n {NAMESPACE} {name}")
    return 0


class Tee(io.TextIOBase):
    """Writes to the terminal and keeps what was written."""

    def __init__(self, terminal: TextIO, lines: list[str]) -> None:
        self.terminal, self.lines = terminal, lines

    def write(self, text: str) -> int:
        """As of any text file."""
        self.lines.append(text)
        return self.terminal.write(text)

    def flush(self) -> None:
        """As of any text file."""
        self.terminal.flush()


@contextlib.contextmanager
def transcript() -> Iterator[list[str]]:
    """Everything that the block prints, which goes to the terminal too."""
    lines: list[str] = []
    with contextlib.redirect_stdout(Tee(sys.stdout, lines)):
        yield lines


def serve(client: Client, mark: Callable[[str], None]) -> tuple[str, str]:
    """Install Nightshift, apply the example, ask it; its name and the answer."""
    install_everything(client)
    mark("helm install --wait")
    example = yaml.safe_load(EXAMPLE.read_text())
    name = example["metadata"]["name"]
    example["metadata"]["namespace"] = NAMESPACE
    client.apply(restricted_namespace(NAMESPACE))
    say(f"kubectl apply -f {EXAMPLE.relative_to(ROOT)}")
    client.apply(example)
    eventually(f"{name} is Ready", lambda: _watch(client, name), READY_SECONDS, every=1)
    mark("apply to Ready")
    print(f"\n$ kubectl get lld -n {NAMESPACE}")
    print(client.kubectl("get", "lld", "-n", NAMESPACE))
    url = (client.get("llmdeployment", name, NAMESPACE) or {})["status"]["url"]
    print(f"$ # {QUESTION} (asked at {url})")
    answer = client.chat(NAMESPACE, name, QUESTION)
    mark("chat")
    print(f"{answer}\n")
    return name, answer


def main() -> int:
    """Run the demo and turn its errors into one line with the remedy."""
    try:
        return demo()
    except (ClusterError, StepError, WaitError, KubectlError) as error:
        print(f"The demo stopped: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
