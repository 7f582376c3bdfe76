"""`python -m bench.reconcile`: a thousand LLMDeployments at once, a restart among them, and one change at that size.

Times are those of the API server's audit log. The operator's account has the chart's rights and no others, so the
API server treats its requests as it does in production.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.audit_log import Request, counts
from bench.control_plane import enter
from bench.fleet import INPUTS, Ground, change_each, create_all, keys, prepared
from bench.operator_process import cpu_seconds, memory_mib
from bench.support import Claim, Measured, percentiles, run

RESOURCES = 1000
CHANGES = 200
CHANGE_EVERY_SECONDS = 0.2
IDLE_SECONDS = 30.0
QUIET_SECONDS = 3.0
KINDS = (
    "serviceaccounts",
    "networkpolicies",
    "services",
    "poddisruptionbudgets",
    "controllerrevisions",
    "replicasets",
)
"""What is applied for every LLMDeployment."""

SERVING = 'nightshift_deployments{reason="Serving"}'
RECONCILED = 'nightshift_reconcile_seconds_count{result="ok"}'


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def of_operator(requests: Iterable[Request], user: str) -> list[Request]:
    """The operator's requests, without those of the Lease and without watches."""
    left_out = ("watch", "leases")
    return [item for item in requests if item.user == user and not {item.verb, item.resource} & set(left_out)]


def is_write(request: Request) -> bool:
    """Whether a request may change something."""
    return request.verb not in ("get", "list")


def deployment_of(request: Request) -> tuple[str, str]:
    """The LLMDeployment of a ReplicaSet's request: its name ends with the hash of the revision."""
    return request.namespace, request.name.rpartition("-")[0]


def applied(requests: Iterable[Request], user: str, resource: str) -> dict[tuple[str, str], float]:
    """When each object of a kind was there, by namespace and name: the first answer to an apply of it."""
    found: dict[tuple[str, str], float] = {}
    for item in requests:
        if (item.user, item.verb, item.resource) == (user, "patch", resource) and item.code in (200, 201):
            found.setdefault((item.namespace, item.name), item.answered)
    return found


def pods_requested(requests: Sequence[Request], user: str) -> dict[tuple[str, str], float]:
    """When the ReplicaSet of each LLMDeployment was applied last."""
    patches = (item for item in requests if (item.user, item.verb, item.resource) == (user, "patch", "replicasets"))
    return {deployment_of(item): item.answered for item in patches}


def delays(starts: dict[tuple[str, str], float], ends: dict[tuple[str, str], float]) -> list[float]:
    """Seconds from one moment to the other, of everything that has both.

    Raises:
        ValueError: Something has no end.
    """
    missing = starts.keys() - ends.keys()
    if missing:
        raise ValueError(f"{len(missing)} of {len(starts)} have no end, such as {min(missing)}")
    return [ends[key] - start for key, start in starts.items()]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles and the largest value."""
    return percentiles(values) | {"max": max(values)}


def per_resource(found: Counter[str], resources: int) -> dict[str, float]:
    """Requests for one LLMDeployment, by verb and resource, most of them first."""
    return {name: count / resources for name, count in found.most_common()}


class Bench:
    """The phases, in their order."""

    def __init__(self, ground: Ground, resources: int, changes: int) -> None:
        self.ground = ground
        self.resources = resources
        self.changes = changes
        self.operator = ground.start_operator()

    def _cost(self) -> dict[str, float]:
        pids = {"operator": self.operator.pid} | self.ground.plane.pids()
        return {name: cpu_seconds(pid) for name, pid in pids.items()}

    def _quiet(self) -> list[Request]:
        """Everything up to the moment when the operator has been silent for a while."""
        seen: list[Request] = []
        last = time.time()
        while time.time() - last < QUIET_SECONDS:
            time.sleep(0.5)
            new = self.ground.audit.read()
            seen += new
            last = max([last, *(item.answered for item in of_operator(new, self.ground.user))])
        return seen

    def burst(self) -> dict[str, Any]:
        """All of them at once, until all serve."""
        say(f"creating {self.resources} LLMDeployments")
        user, before = self.ground.user, self._cost()
        self.ground.audit.read()
        create_all(self.ground.administrator, keys(self.resources))
        self.operator.wait(SERVING, self.resources, 900)
        say("all serve")
        after = self._cost()
        requests = self._quiet()
        created = {
            (item.namespace, item.name): item
            for item in requests
            if (item.verb, item.resource, item.code) == ("create", "llmdeployments", 201)
        }
        start = min(item.received for item in created.values())
        objects = [time for kind in KINDS for time in applied(requests, user, kind).values()]
        pods = [item.answered for item in requests if (item.verb, item.resource, item.code) == ("create", "pods", 201)]
        done = {key: item.answered for key, item in created.items()}
        own = of_operator(requests, user)
        return {
            "objects": len(objects),
            "pods": len(pods),
            "creating_seconds": max(item.answered for item in created.values()) - start,
            "objects_applied_seconds": max(objects) - start,
            "pods_created_seconds": max(pods) - start,
            "all_serving_seconds": max(item.answered for item in own) - start,
            "create_to_pods_requested_seconds": spread(delays(done, applied_sets(requests, user))),
            "requests_per_resource": len(own) / self.resources,
            "requests_per_resource_by_kind": per_resource(counts(own), self.resources),
            "refused_requests": sum(item.code >= 400 and item.code != 404 for item in own),
            "cpu_seconds": {name: after[name] - before[name] for name in before},
            "operator_memory_mib": memory_mib(self.operator.pid, "VmRSS"),
        }

    def idle(self) -> dict[str, Any]:
        """Nothing happens."""
        say("idle")
        self._quiet()
        before = cpu_seconds(self.operator.pid)
        time.sleep(IDLE_SECONDS)
        used = cpu_seconds(self.operator.pid) - before
        own = of_operator(self.ground.audit.read(), self.ground.user)
        return {"seconds": IDLE_SECONDS, "operator_cpu_seconds": used, "requests": len(own)}

    def change(self) -> dict[str, Any]:
        """One change after the other, while everything else serves."""
        say(f"changing {self.changes} of them, one after the other")
        chosen = keys(self.resources)[: self.changes]
        before = cpu_seconds(self.operator.pid)
        self.ground.audit.read()
        change_each(self.ground.administrator, chosen, CHANGE_EVERY_SECONDS)
        requests = self._quiet()
        used = cpu_seconds(self.operator.pid) - before
        asked = {
            (item.namespace, item.name): item.received
            for item in requests
            if (item.verb, item.resource) == ("patch", "llmdeployments")
        }
        return {
            "changes": len(asked),
            "acted_on_seconds": spread(delays(asked, pods_requested(requests, self.ground.user))),
            "operator_cpu_seconds": used,
        }

    def restart(self) -> tuple[dict[str, Any], float]:
        """A new process among everything that serves; and the peak memory of the one before."""
        say("restarting the operator")
        peak = memory_mib(self.operator.pid)
        self.operator.stop()
        self.ground.audit.read()
        self.operator = self.ground.start_operator()
        self.operator.wait(RECONCILED, self.resources, 300, every=0.2)
        steady = time.time() - self.operator.started
        used = cpu_seconds(self.operator.pid)
        own = of_operator(self._quiet(), self.ground.user)
        return {
            "steady_seconds": steady,
            "operator_cpu_seconds": used,
            "requests": len(own),
            "writes": sum(map(is_write, own)),
            "operator_peak_memory_mib": memory_mib(self.operator.pid),
        }, peak


def applied_sets(requests: Sequence[Request], user: str) -> dict[tuple[str, str], float]:
    """When each LLMDeployment's first ReplicaSet was there."""
    return {(where, name.rpartition("-")[0]): at for (where, name), at in applied(requests, user, KINDS[-1]).items()}


def claims(results: dict[str, Any], resources: int) -> list[Claim]:
    """What is promised, with what was measured."""
    burst, peak = results["burst"], results["operator_peak_memory_mib"]
    objects, pods = burst["objects_applied_seconds"], burst["pods_created_seconds"]
    acted = results["change"]["acted_on_seconds"]["p99"]
    return [
        Claim(f"All objects of {resources} LLMDeployments are applied.", objects, "s", 30, "lower"),
        Claim(f"The pods of {resources} LLMDeployments are created.", pods, "s", 90, "lower"),
        Claim(f"Memory of the operator with {resources} LLMDeployments, at its peak.", peak, "MiB", 300, "lower"),
        Claim(f"One change among {resources} LLMDeployments is acted on, 99th percentile.", acted, "s", 1, "lower"),
        Claim("Writes after a restart among what serves.", results["restart"]["writes"], "writes", 0, "lower"),
    ]


def measure(options: argparse.Namespace) -> Measured:
    """Run all phases on a fleet of its own."""
    with prepared(options.resources + options.changes) as ground:
        bench = Bench(ground, options.resources, options.changes)
        try:
            results: dict[str, Any] = {"burst": bench.burst(), "idle": bench.idle(), "change": bench.change()}
            results["restart"], peak = bench.restart()
            results["operator_peak_memory_mib"] = max(peak, results["restart"]["operator_peak_memory_mib"])
        finally:
            bench.operator.stop()
            if options.operator_log:
                options.operator_log.write_bytes((ground.directory / "log").read_bytes())
    inputs = {"resources": options.resources, "changes": options.changes, **INPUTS}
    return Measured(inputs, results, claims(results, options.resources))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options besides --out."""
    parser.add_argument("--resources", type=int, default=RESOURCES, help="how many LLMDeployments")
    parser.add_argument("--changes", type=int, default=CHANGES, help="how many of them are changed")
    parser.add_argument("--operator-log", type=Path, help="where the operator's log is kept")


if __name__ == "__main__":
    enter()
    sys.exit(run("reconcile", measure, arguments))
