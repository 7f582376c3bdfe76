"""`python -m bench.idle`: what the operator asks of the API server while nothing changes, by the audit log.

The time is long enough for everything that comes round by itself: every watch is begun anew, the cache is compared
with lists, and every LLMDeployment is looked at again.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.audit_log import Request, counts
from bench.control_plane import enter
from bench.fleet import INPUTS, Ground, create_all, keys, prepared
from bench.operator_process import OperatorProcess, cpu_seconds, memory_mib
from bench.reconcile import QUIET_SECONDS, RECONCILED, SERVING, is_write, of_operator, say
from bench.support import Claim, Measured, run

RESOURCES = 100
MINUTES = 10.0
SETTLE_SECONDS = 120.0
RENEWALS_PER_MINUTE = 15.0
"""At least so many are expected of a leader, which renews every two seconds and waits for each answer."""


def idle_requests(requests: Sequence[Request], user: str) -> dict[str, Any]:
    """What an operator's account asked for, with its Lease and its watches apart.

    Args:
        requests: What the audit log told.
        user: The operator's account.
    """
    own = of_operator(requests, user)
    writes, reads = list(filter(is_write, own)), [item for item in own if not is_write(item)]
    leases = [item for item in requests if item.user == user and item.resource == "leases"]
    return {
        "writes": len(writes),
        "writes_by_kind": dict(counts(writes)),
        "reads": len(reads),
        "reads_by_kind": dict(counts(reads)),
        "watches_that_ended": sum(item.user == user and item.verb == "watch" for item in requests),
        "lease_renewals": sum(item.verb == "update" and item.code == 200 for item in leases),
        "lease_reads": sum(item.verb == "get" for item in leases),
        "refused": sum(item.code >= 400 for item in (*own, *leases)),
    }


def settled(ground: Ground, operator: OperatorProcess, resources: int) -> None:
    """Wait until all serve and the operator has said nothing for a while.

    Raises:
        TimeoutError: It never came to rest.
    """
    operator.wait(SERVING, resources, 300)
    deadline = last = time.time()
    while time.time() - last < QUIET_SECONDS:
        if time.time() > deadline + SETTLE_SECONDS:
            raise TimeoutError(
                f"the operator asks for something again and again, {SETTLE_SECONDS:.0f} s after all serve"
            )
        time.sleep(0.5)
        last = max([last, *(item.answered for item in of_operator(ground.audit.read(), ground.user))])


def idle(ground: Ground, operator: OperatorProcess, minutes: float) -> dict[str, Any]:
    """What is asked for and used while nothing changes."""
    say(f"nothing changes for {minutes:g} minutes")
    ground.audit.read()
    reconciled, used, began = operator.metric(RECONCILED), cpu_seconds(operator.pid), time.monotonic()
    time.sleep(60 * minutes)
    seconds = time.monotonic() - began
    found = idle_requests(ground.audit.read(), ground.user)
    rates = {
        "requests_per_minute": found["reads"] * 60 / seconds,
        "lease_requests_per_minute": (found["lease_reads"] + found["lease_renewals"]) * 60 / seconds,
        "operator_cpu_seconds_per_minute": (cpu_seconds(operator.pid) - used) * 60 / seconds,
    }
    return {
        "seconds": seconds,
        **found,
        **rates,
        "reconciles": round(operator.metric(RECONCILED) - reconciled),
        "serving_at_the_end": round(operator.metric(SERVING)),
        "operator_memory_mib": memory_mib(operator.pid, "VmRSS"),
        "operator_peak_memory_mib": memory_mib(operator.pid),
    }


def claims(results: dict[str, Any], resources: int) -> list[Claim]:
    """What is promised, with what was measured; and what shows that the operator was alive and was seen."""
    minutes = results["seconds"] / 60
    said = f"with {resources} idle LLMDeployments"
    renewals = results["lease_renewals"] / minutes
    return [
        Claim(f"Writes in {minutes:.3g} minutes {said}, the Lease aside.", results["writes"], "writes", 0, "lower"),
        Claim(f"Renewals of the Lease {said}, in the same log.", renewals, "1/min", RENEWALS_PER_MINUTE, "higher"),
        Claim("All of them serve at the end.", results["serving_at_the_end"], "LLMDeployments", resources, "higher"),
    ]


def measure(options: argparse.Namespace) -> Measured:
    """Let a fleet of its own serve, and then nothing happen."""
    with prepared(options.resources) as ground:
        operator = ground.start_operator()
        try:
            say(f"creating {options.resources} LLMDeployments")
            create_all(ground.administrator, keys(options.resources))
            settled(ground, operator, options.resources)
            results = idle(ground, operator, options.minutes)
        finally:
            operator.stop()
            if options.operator_log:
                options.operator_log.write_bytes((ground.directory / "log").read_bytes())
    inputs = {"resources": options.resources, "minutes": options.minutes, **INPUTS}
    return Measured(inputs, results, claims(results, options.resources))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options besides --out."""
    parser.add_argument("--resources", type=int, default=RESOURCES, help="how many LLMDeployments")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for how long nothing changes")
    parser.add_argument("--operator-log", type=Path, help="where the operator's log is kept")


if __name__ == "__main__":
    enter()
    sys.exit(run("idle", measure, arguments))
