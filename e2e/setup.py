"""Setting up what the demo and the stories need: cluster, images, tiny model, in two lanes side by side."""

import os
import time

from e2e.cluster import current
from e2e.images import image
from e2e.support.client import Client
from e2e.support.install import install, install_hub
from e2e.support.lane import Lane, run_lanes

DEMO_IMAGES = ("operator", "vllm-cpu:0.32.0", "tiny-hub")


def say(text: str) -> None:
    """Tell where the setup is."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def prepare(images: tuple[str, ...], tools: tuple[str, ...] = ()) -> Client:
    """Bring up the cluster and build what is missing; with KUBECONFIG set, only check and use what is there.

    Args:
        images: Names as e2e.images knows them.
        tools: Further binaries, as e2e.cluster knows them.

    Raises:
        StepError: A step failed; what it wrote says why.
    """
    tool_steps = [["-m", "e2e.cluster", "tool", name] for name in tools]
    cluster = Lane("cluster", [["-m", "e2e.cluster", "up"], *tool_steps])
    if os.environ.get("KUBECONFIG"):
        run_lanes(cluster)
        return Client(current())
    engines = [name for name in images if name.startswith("vllm-cpu")]
    others = [name for name in images if name not in engines]
    build = ["-m", "e2e.images", "build"]
    train = ["-m", "e2e.model", "build"]
    run_lanes(Lane("packages", [["-m", "e2e.cluster", "packages"]]))
    run_lanes(cluster, Lane("images", [[*build, *engines], train, [*build, *others]]))
    run_lanes(Lane("push", [[*build, *images, "--wait", "60"]]))
    return Client(current())


def install_everything(client: Client) -> None:
    """Install the model Hub and Nightshift."""
    say("installing a small model Hub")
    install_hub(client, image("tiny-hub"))
    say("installing Nightshift: helm install --wait")
    install(client, image("operator"))
