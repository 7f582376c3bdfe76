"""`python -m bench.bare`: the objects of a thousand LLMDeployments, applied by a bare client with no operator.

What `bench.reconcile` promises stands on the same machine as API server and controllers: this is what these take alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from bench.control_plane import enter
from bench.fleet import CLIENTS, INPUTS, NAMESPACES, Ground, create_all, for_each, prepared
from bench.operator_process import cpu_seconds
from bench.reconcile import KINDS, RESOURCES, SERVING
from bench.support import Measured, run
from nightshift.adapters.kube import KubeClient
from nightshift.api import names

MODEL = ("bench-0", "bot-0000")
ASSIGNED = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "ownerReferences")


def made(ground: Ground) -> list[dict[str, Any]]:
    """What the operator makes for one LLMDeployment, without what the API server added of names and numbers."""
    operator = ground.start_operator()
    try:
        create_all(ground.administrator, [MODEL])
        operator.wait(SERVING, 1, 60)
        found = ground.plane.client.list(",".join(KINDS), MODEL[0], f"{names.LABEL_DEPLOYMENT}={MODEL[1]}")
    finally:
        operator.stop()
    objects = []
    for raw in found:
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


async def apply_copies(objects: Sequence[dict[str, Any]], kube: KubeClient, number: int) -> None:
    """Apply the objects of one LLMDeployment, one after the other."""
    for raw in copies(objects, number):
        await kube.apply(raw, names.FIELD_MANAGER)


def measure(options: argparse.Namespace) -> Measured:
    """Apply them all, those of one LLMDeployment one after the other, several side by side."""
    with prepared(options.resources + 1) as ground:
        objects = made(ground)
        before = {name: cpu_seconds(pid) for name, pid in ground.plane.pids().items()}
        began = time.monotonic()
        for_each(ground.administrator, range(options.resources), partial(apply_copies, objects))
        took = time.monotonic() - began
        used = {name: cpu_seconds(pid) - before[name] for name, pid in ground.plane.pids().items()}
    results = {"objects": len(objects) * options.resources, "applied_seconds": took, "cpu_seconds": used}
    return Measured({"resources": options.resources, "clients": CLIENTS, **INPUTS}, results, [])


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options besides --out."""
    parser.add_argument("--resources", type=int, default=RESOURCES, help="the objects of how many LLMDeployments")


if __name__ == "__main__":
    enter()
    sys.exit(run("bare", measure, arguments))
