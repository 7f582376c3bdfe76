"""Operators of this checkout as processes beside a cluster, each with a release, rights and a Lease of its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from e2e.images import image
from e2e.support.client import Client, Object, eventually
from e2e.support.install import CHART, RELEASE, SYSTEM, values

SIMULATOR_REQUESTS = {"cpu": "20m", "memory": "64Mi"}
"""Of engines beside which no real ones run: two dozen of them fit on a node of two cores, whatever else is there."""

NAME = "beside"
ACCOUNT = f"{NAME}-nightshift"
"""Of the release's service account, as the chart names it; its ConfigMap is called so too."""

AWAY_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """What a process needs in the place of the chart's pod."""

    config: dict[str, Any]
    """The configuration that the chart wrote."""
    token: str
    """Of the chart's service account."""
    kubeconfig: Object
    """Speaks to the API server with that token."""


@contextmanager
def operators_away(client: Client) -> Iterator[None]:
    """No operator runs in the cluster while the block lasts; afterwards as many as before."""
    found = client.get("deployment", RELEASE, SYSTEM)
    assert found is not None, "Nightshift is not installed"
    scale = ["scale", "-n", SYSTEM, f"deployment/{RELEASE}"]
    client.kubectl(*scale, "--replicas=0")
    try:
        eventually("no operator pod is left", lambda: not _pods(client) or None, AWAY_SECONDS)
        yield
    finally:
        client.kubectl(*scale, f"--replicas={found['spec']['replicas']}")
        client.kubectl("rollout", "status", "-n", SYSTEM, f"deployment/{RELEASE}", "--timeout=120s", timeout=140)


def _pods(client: Client) -> list[Object]:
    return client.list("pods", SYSTEM, "app.kubernetes.io/name=nightshift")


def install_beside(client: Client, namespace: str, **changes: Any) -> Place:
    """Install a release for a namespace, in it, without pods; what a process needs to take their place.

    Args:
        client: The cluster.
        namespace: The only one that it watches.
        changes: Chart values other than the stories'.
    """
    chosen = values(client, image("operator")) | changes
    for profile in chosen["accelerators"].values():
        profile["requests"] = dict(SIMULATOR_REQUESTS)
    chosen |= {"replicas": 0, "watchNamespaces": [namespace], "crds": {"enabled": False}}
    arguments = ["upgrade", "--install", NAME, str(CHART), "--namespace", namespace, "--values", "-"]
    client.helm(*arguments, stdin=yaml.safe_dump(chosen))
    written = client.get("configmap", ACCOUNT, namespace)
    assert written is not None, "the chart wrote no configuration"
    token = client.kubectl("create", "token", ACCOUNT, "-n", namespace, "--duration=1h").strip()
    own = json.loads(client.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    return Place(
        config=yaml.safe_load(written["data"]["config.yaml"]),
        token=token,
        kubeconfig={**own, "users": [{"name": own["users"][0]["name"], "user": {"token": token}}]},
    )
