"""What follows from what was measured: figures of a side, medians over the runs, claims."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.support import Claim

DIRECT, BARE, OURS, AIOHTTP, ROUTER = "direct", "haproxy", "nightshift", "aiohttp", "vllm-router"
BY_BODY, BY_PATH = "nightshift, plain route, model in the body", "nightshift, plain route, by path"
"""Variants of ours for requests per core."""

REQUESTS_PER_CORE = "requests_per_second_per_core"
P50_ALONE = "p50_alone_ms"
ADDED_P50 = "added_p50_alone_ms"
JITTER_P99 = "stream_jitter_p99_ms"
STREAM_CORES = "stream_cores"
ARRIVED = "stream_events_of_due"
FAILED = "failed"
MISSED_LINES = "log_lines_missed_by_the_agent"

Raw = Mapping[str, Any]
Run = Mapping[str, Mapping[str, float]]
"""By side, its figures by name."""


def proxy_cpu(raw: Raw) -> float:
    """Processor time of all of a side's processes, in seconds."""
    used: Mapping[str, float] = raw["cpu_seconds"]
    return sum(seconds for name, seconds in used.items() if name not in ("engine", "load"))


def of_answers(raw: Raw) -> dict[str, float]:
    """Figures of many clients that ask for short answers.

    Worked example: 30,000 requests for which a proxy used 2 s of processor time are 15,000 per second and core.
    """
    used = proxy_cpu(raw)
    return {
        **({REQUESTS_PER_CORE: raw["requests"] / used} if used else {}),
        "requests_per_second": raw["requests"] / raw["seconds"],
        "p50_ms": raw["p50_ms"],
        "p99_ms": raw["p99_ms"],
        "engine_cores": raw["cpu_seconds"]["engine"] / raw["seconds"],
        "load_cores": raw["cpu_seconds"]["load"] / raw["seconds"],
        FAILED: raw["failed"],
    }


def of_one_client(raw: Raw) -> dict[str, float]:
    """Figures of a client that is alone."""
    return {P50_ALONE: raw["p50_ms"], "p99_alone_ms": raw["p99_ms"], FAILED: raw["failed"]}


def of_streams(raw: Raw) -> dict[str, float]:
    """Figures of many streams."""
    return {
        "stream_jitter_p50_ms": raw["jitter_p50_ms"],
        JITTER_P99: raw["jitter_p99_ms"],
        "stream_first_byte_p50_ms": raw["first_byte_p50_ms"],
        "stream_first_byte_p99_ms": raw["first_byte_p99_ms"],
        STREAM_CORES: proxy_cpu(raw) / raw["seconds"],
        "stream_engine_cores": raw["cpu_seconds"]["engine"] / raw["seconds"],
        "stream_load_cores": raw["cpu_seconds"]["load"] / raw["seconds"],
        ARRIVED: raw["events"] / raw["due"],
        FAILED: raw["failed"],
    }


def merged(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figures of one side in one run from several measurements; what failed is added up."""
    found: dict[str, float] = {}
    for one in figures:
        found |= {**one, FAILED: found.get(FAILED, 0) + one[FAILED]}
    return found


def with_added(run: Run) -> dict[str, dict[str, float]]:
    """A run, with what each side adds to the time of a direct call in the same run."""
    direct = run[DIRECT][P50_ALONE]
    return {
        side: {**figures, **({ADDED_P50: figures[P50_ALONE] - direct} if P50_ALONE in figures else {})}
        for side, figures in run.items()
    }


def medians(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """The median of each figure of each side over the runs; of failures the sum."""
    return {
        side: {name: (sum if name == FAILED else median)(run[side][name] for run in runs) for name in runs[0][side]}
        for side in runs[0]
    }


def ratio(runs: Sequence[Run], figure: str, side: str, other: str) -> float:
    """The median over the runs of a figure of one side in proportion to that of another in the same run."""
    return median(run[side][figure] / run[other][figure] for run in runs)


def traffic_claims(runs: Sequence[Run], streams: int, missed_lines: int) -> list[Claim]:
    """What is promised of the path that requests take, and of what is counted of it."""
    middle = medians(runs)
    ours = middle[OURS]
    per_core = "Requests per second and core of the gateway with all rules on"
    streaming = f"{streams:,} streams of 20 events a second through the gateway"
    found = [Claim(f"{per_core}, of bare HAProxy's.", ratio(runs, REQUESTS_PER_CORE, OURS, BARE), "", 0.38, "higher")]
    if ROUTER in middle:
        times = ratio(runs, REQUESTS_PER_CORE, OURS, ROUTER)
        found.append(Claim(f"{per_core}, of vllm-router's.", times, "", 1, "higher"))
    return [
        *found,
        Claim("What the gateway adds to a client alone, p50.", ours[ADDED_P50], "ms", 0.25, "lower"),
        Claim(
            f"{streaming}: p99 of the deviation from 50 ms between events, of a direct call's.",
            ratio(runs, JITTER_P99, OURS, DIRECT),
            "",
            3,
            "lower",
        ),
        Claim(f"{streaming}: processor.", ours[STREAM_CORES], "cores", 0.5, "lower"),
        Claim(
            f"{streaming}: events that arrived in time, of those due.",
            min(ours[ARRIVED], middle[DIRECT][ARRIVED]),
            "",
            0.98,
            "higher",
        ),
        Claim("Requests and streams through the gateway that failed.", ours[FAILED], "", 0, "lower"),
        Claim(
            "Requests that the agent did not count, since it took HAProxy's lines too late.",
            missed_lines,
            "",
            0,
            "lower",
        ),
    ]


def agent_claims(figures: Mapping[str, float], deployments: int) -> list[Claim]:
    """What is promised of the agent."""
    many = f"with {deployments} deployments"
    return [
        Claim(f"The agent's memory at its peak {many}.", figures["agent_peak_memory_mib"], "MiB", 120, "lower"),
        Claim(
            f"The agent's processor at rest {many}.", figures["agent_cpu_percent_of_a_core"], "% of a core", 2, "lower"
        ),
        Claim(f"A ready pod takes requests {many}, p95.", figures["readiness_p95_ms"], "ms", 500, "lower"),
        Claim(f"A pod that is deleted gets nothing new {many}, p95.", figures["deletion_p95_ms"], "ms", 200, "lower"),
        Claim(
            "Pods that served the first request after HAProxy showed them as ready.",
            figures["served_after_readiness"],
            "",
            figures["samples"],
            "higher",
        ),
    ]
