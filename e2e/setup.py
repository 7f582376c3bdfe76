"""Setting up what the demo and the stories need: cluster, images, tiny model, in two lanes side by side."""

import time

from e2e.cluster import Settings, current, preflight
from e2e.cluster.checks import CLUSTER, GIB, Needs
from e2e.cluster.reach import demand_prefix
from e2e.cluster.settings import user_kubeconfig
from e2e.images import image
from e2e.images.footprint import disk_to_build
from e2e.support.client import Client
from e2e.support.install import install, install_hub
from e2e.support.lane import Lane, run_lanes

DEMO_IMAGES = ("operator", "gateway", "vllm-cpu:0.32.0", "tiny-hub")
MEMORY = 12 * GIB
"""The cluster, one engine of real vLLM that leaves while the next one starts, and a build beside them."""


def say(text: str) -> None:
    """Tell where the setup is."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def prepare(what: str, images: tuple[str, ...], tools: tuple[str, ...] = ()) -> Client:
    """Bring up the cluster and build what is missing; with KUBECONFIG set, only check and use what is there.

    Args:
        what: What it is for, as a refusal names it.
        images: Names as e2e.images knows them.
        tools: Further binaries, as e2e.cluster knows them.

    Raises:
        ClusterError: The machine, the account or the user's settings cannot do it; nothing was changed.
        StepError: A step failed; what it wrote says why.
    """
    settings = Settings.from_environment()
    chosen = user_kubeconfig(settings)
    if chosen:
        prefix = demand_prefix()
        say(f"KUBECONFIG is set: using the cluster of {chosen} as it is, with images of {prefix}")
        say("no cluster is started, no image is built or pushed, nodes stay as they are, no root is needed")
        run_lanes(Lane("cluster", [["-m", "e2e.cluster", "up"]]))
        return Client(current())
    preflight.check(settings, Needs(what, max(MEMORY, CLUSTER.memory_bytes), disk_to_build(images, settings)))
    tool_steps = [["-m", "e2e.cluster", "tool", name] for name in tools]
    cluster = Lane("cluster", [["-m", "e2e.cluster", "up"], *tool_steps])
    engines = [name for name in images if name.startswith("vllm-cpu")]
    others = [name for name in images if name not in engines]
    build = ["-m", "e2e.images", "build"]
    train = ["-m", "e2e.model", "build"]
    run_lanes(Lane("packages", [["-m", "e2e.cluster", "packages"]]))
    run_lanes(cluster, Lane("images", [*([[*build, *engines]] if engines else []), train, [*build, *others]]))
    run_lanes(Lane("push", [[*build, *images, "--wait", "60"]]))
    return Client(current())


def install_everything(client: Client) -> None:
    """Install the model Hub and Nightshift."""
    say("installing a small model Hub")
    install_hub(client, image("tiny-hub"))
    say("installing Nightshift: helm install --wait")
    install(client, image("operator"), image("gateway"))
