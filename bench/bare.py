"""`python -m bench.bare`: the objects of a thousand LLMDeployments, applied by a bare client with no operator.

What `bench.reconcile` promises stands on the same machine as API server and controllers: this is what these take alone.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.control_plane import enter
from bench.fleet import INPUTS, NAMESPACES, Ground, create_all, prepared, with_kube
from bench.operator_process import cpu_seconds
from bench.support import Measured, run
from nightshift.adapters.kube import KubeClient
from nightshift.api import names

RESOURCES = 1000
CLIENTS = 16
MODEL = ("bench-0", "bot-0000")
KINDS = "serviceaccounts,networkpolicies,services,poddisruptionbudgets,controllerrevisions,replicasets"
ASSIGNED = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "ownerReferences")


def made(ground: Ground) -> list[dict[str, Any]]:
    """What the operator makes for one LLMDeployment, without what the API server added of names and numbers."""
    operator = ground.start_operator()
    try:
        create_all(ground.administrator, [MODEL])
        operator.wait('nightshift_deployments{reason="Serving"}', 1, 60)
        found = ground.plane.client.list(KINDS, MODEL[0], f"{names.LABEL_DEPLOYMENT}={MODEL[1]}")
    finally:
        operator.stop()
    objects = []
    for raw in found:
        if raw["kind"] in ("EndpointSlice", "Endpoints"):
            continue
        metadata = {key: value for key, value in raw["metadata"].items() if key not in ASSIGNED}
        clean = {key: value for key, value in raw.items() if key != "status"} | {"metadata": metadata}
        for field in ("clusterIP", "clusterIPs"):
            clean.get("spec", {}).pop(field, None)
        objects.append(clean)
    return objects


def copies(objects: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """The same objects of another LLMDeployment."""
    text = json.dumps(list(objects)).replace(MODEL[1], f"bare-{number:04}")
    found: list[dict[str, Any]] = json.loads(text)
    for raw in found:
        raw["metadata"]["namespace"] = f"bench-{number % NAMESPACES}"
    return found


def measure(options: argparse.Namespace) -> Measured:
    """Apply them all, those of one LLMDeployment one after the other, several side by side."""
    with prepared(options.resources + 1) as ground:
        objects = made(ground)
        before = {name: cpu_seconds(pid) for name, pid in ground.plane.pids().items()}
        took = 0.0

        async def work(kube: KubeClient) -> None:
            nonlocal took
            left = list(range(options.resources))

            async def client() -> None:
                while left:
                    for raw in copies(objects, left.pop()):
                        await kube.apply(raw, names.FIELD_MANAGER)

            began = time.monotonic()
            await asyncio.gather(*(client() for _ in range(CLIENTS)))
            took = time.monotonic() - began

        asyncio.run(with_kube(ground.administrator, work))
        used = {name: round(cpu_seconds(pid) - before[name], 1) for name, pid in ground.plane.pids().items()}
    results = {"objects": len(objects) * options.resources, "applied_seconds": round(took, 1), "cpu_seconds": used}
    return Measured({"resources": options.resources, "clients": CLIENTS, **INPUTS}, results, [])


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options besides --out."""
    parser.add_argument("--resources", type=int, default=RESOURCES, help="the objects of how many LLMDeployments")


if __name__ == "__main__":
    enter()
    sys.exit(run("bare", measure, arguments))
