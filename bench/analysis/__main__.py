"""`python -m bench.analysis`: how often a rollout is judged rightly, and how long it takes.

Simulated rollouts go through the operator's own judgement (`core.analysis`), minute by minute and step by step. Their
latencies are blocks of a recording, of which one half is never used to choose anything. Argo Rollouts and Flagger judge
the same streams by their documentation, with their defaults and with the best of a grid, which is chosen on the other
half.
"""

import argparse
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.analysis import counting, peers
from bench.analysis.driver import (
    DEADLINE_SECONDS,
    GOLDEN_PAIRS_PER_SECOND,
    INCONCLUSIVE,
    PROMOTED,
    ROLLED_BACK,
    STEP_SECONDS,
    STEPS,
    Outcome,
    roll_out,
)
from bench.analysis.plot import bars, curve
from bench.analysis.shapes import RECORDED, Recording, Shape, load
from bench.analysis.world import (
    BASE_ERRORS,
    BESIDE,
    HANG_WITHIN_SECONDS,
    IDENTICAL,
    KINDS,
    QUESTIONS,
    Kind,
    Shapes,
    World,
)
from bench.support import Claim, Measured, run

RATES = (0.1, 1.0, 20.0)
"""Requests per second of the deployment."""
SEED = 20260101
CURVE_RATE = 1.0
ERROR_CURVE = (0.002, 0.01, 0.02, 0.03, 0.05, 0.1)
LATENCY_CURVE = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 2.0)

Judged = Callable[[World], Outcome]


class Peer(Protocol):
    """Another product's judgement, with one setting."""

    def roll_out(self, world: World) -> Outcome:
        """One rollout."""


class Cells:
    """Runs cells of rollouts on one half of a recording."""

    def __init__(self, recording: Recording, seed: int) -> None:
        self.stable = Shape(recording)
        self.seed = seed
        self._candidates = {1.0: Shape(recording)}
        self._recording = recording

    def _shapes(self, kind: Kind) -> Shapes:
        if kind.first_token not in self._candidates:
            self._candidates[kind.first_token] = Shape(self._recording, first_token=kind.first_token)
        return Shapes(self.stable, self._candidates[kind.first_token])

    def run(self, kind: Kind, rate: float, rollouts: int, judged: Judged) -> list[Outcome]:
        """The rollouts of one cell; the same clients for whoever judges."""
        shapes = self._shapes(kind)
        return [
            judged(World(kind, rate, shapes, random.Random(f"{self.seed} {kind.name} {rate} {number}")))
            for number in range(rollouts)
        ]


class Ours:
    """The operator's judgement, timed."""

    def __init__(self) -> None:
        self.seconds, self.looks = 0.0, 0

    def __call__(self, world: World) -> Outcome:
        """One rollout."""
        outcome, course = roll_out(world)
        self.seconds += course.judged_seconds
        self.looks += course.judged
        return outcome


def table(cells: Cells, rollouts: int, judged: Judged, kinds: Sequence[Kind], name: str) -> dict[str, Any]:
    """Every kind at every rate."""
    found: dict[str, Any] = {}
    for kind in kinds:
        for rate in RATES:
            told = counting.told(cells.run(kind, rate, rollouts, judged))
            found.setdefault(kind.name, {})[f"{rate:g}_per_second"] = told
            print(
                f"{name}: {kind.name}, {rate:g}/s: {told['promoted_share']:.1%} promoted, "
                f"{told['rolled_back_share']:.1%} rolled back, {told['inconclusive_share']:.1%} inconclusive, "
                f"{told['median_minutes_to_the_verdict']:g} min",
                flush=True,
            )
    return found


def rightly(promoted: Sequence[float], rolled_back: Sequence[float]) -> float:
    """How well a judgement tells good from bad: the mean of both shares that ended rightly.

    Good and bad weigh the same, so that rolling everything back is worth one half, as promoting everything is.

    Args:
        promoted: Shares of identical revisions, by cell.
        rolled_back: Shares of the others, by cell.
    """
    return (sum(promoted) / len(promoted) + sum(rolled_back) / len(rolled_back)) / 2


def rightly_told(found: Mapping[str, Any]) -> float:
    """The same of a table."""
    promoted = [cell["promoted_share"] for cell in found[IDENTICAL.name].values()]
    others = [cells for name, cells in found.items() if name != IDENTICAL.name]
    return rightly(promoted, [cell["rolled_back_share"] for cells in others for cell in cells.values()])


def best(cells: Cells, rollouts: int, grid: Sequence[Peer]) -> Peer:
    """The setting that tells good from bad best, over all kinds and rates, on the half for choosing."""

    def share(setting: Peer, kind: Kind, rate: float) -> float:
        wanted = PROMOTED if kind is IDENTICAL else ROLLED_BACK
        return sum(item.end == wanted for item in cells.run(kind, rate, rollouts, setting.roll_out)) / rollouts

    def worth(setting: Peer) -> float:
        promoted = [share(setting, IDENTICAL, rate) for rate in RATES]
        return rightly(promoted, [share(setting, kind, rate) for kind in KINDS[1:] for rate in RATES])

    return max(grid, key=worth)


def operating(cells: Cells, rollouts: int) -> dict[str, Any]:
    """How often a candidate is rolled back or promoted, by how much worse it is."""
    found: dict[str, Any] = {"requests_per_second": CURVE_RATE, "errors": {}, "first_token": {}}
    kinds = [("errors", f"{share:g}", Kind(f"errors {share:g}", errors=share)) for share in ERROR_CURVE]
    kinds += [("first_token", f"{by:g}", Kind(f"TTFT {by:g}", first_token=by)) for by in LATENCY_CURVE]
    for name, at, kind in kinds:
        outcomes = cells.run(kind, CURVE_RATE, rollouts, Ours())
        found[name][at] = {
            end.replace(" ", "_") + "_share": sum(item.end == end for item in outcomes) / rollouts
            for end in (PROMOTED, ROLLED_BACK, INCONCLUSIVE)
        }
        print(f"curve: {name} {at}: {found[name][at]}", flush=True)
    return found


def worst(found: Mapping[str, Any], kind: str, figure: str, pick: Callable[..., float]) -> float:
    """A figure of a kind, at the rate where it is worst, in percent."""
    return 100 * pick(cell[figure] for cell in found[kind].values())


def claims(ours: Mapping[str, Any], milliseconds: float) -> list[Claim]:
    """What is promised, each by its 95 % limit at the worst of the rates."""
    promised = [
        Claim(
            "Identical revisions that are promoted within the deadline, lower 95 % limit, worst rate.",
            worst(ours, IDENTICAL.name, "promoted_share_lower_95", min),
            *("%", 95, "higher"),
        ),
        Claim(
            "Identical revisions that are rolled back, upper 95 % limit, worst rate.",
            worst(ours, IDENTICAL.name, "rolled_back_share_upper_95", max),
            *("%", 0.5, "lower"),
        ),
    ]
    for kind in KINDS[1:]:
        value = worst(ours, kind.name, "rolled_back_share_lower_95", min)
        sentence = f"Candidates with {kind.name} that are rolled back, lower 95 % limit, worst rate."
        promised.append(Claim(sentence, value, "%", 95, "higher"))
    return [*promised, Claim("Processor time of one judgement, on average.", milliseconds, "ms", 1.0, "lower")]


def measure(options: argparse.Namespace) -> Measured:
    """Everything."""
    wrong = [name for name, holds in peers.examples().items() if not holds]
    if wrong:
        raise SystemExit(f"A peer does not reproduce its documentation: {'; '.join(wrong)}")
    recording = load(options.recording)
    choosing, judged = recording.halves()
    if options.half == "choosing":
        judged = choosing
    cells, rollouts = Cells(judged, SEED), options.rollouts
    ours = Ours()
    found = table(cells, rollouts, ours, KINDS, "Nightshift")
    milliseconds = 1000 * ours.seconds / ours.looks
    beside = table(cells, rollouts, Ours(), BESIDE, "Nightshift")
    curves = operating(cells, max(20, rollouts // 8))
    tuning, tried = Cells(choosing, SEED + 1), max(5, rollouts // 100)
    chosen: dict[str, tuple[Peer, Peer]] = {
        "Argo Rollouts": (peers.Argo(), best(tuning, tried, peers.argo_grid(tuning.stable.percentile(0.95)))),
        "Flagger": (peers.Flagger(), best(tuning, tried, peers.flagger_grid(tuning.stable.percentile(0.99)))),
    }
    results: dict[str, Any] = {
        "nightshift": found,
        "nightshift_beside": beside,
        "nightshift_operating_characteristics": curves,
        "judgement_ms": milliseconds,
        "nightshift_rightly_share": rightly_told(found),
    }
    for name, (default, tuned) in chosen.items():
        for which, setting in (("defaults", default), ("best_of_grid", tuned)):
            peer = table(cells, rollouts, setting.roll_out, KINDS, f"{name}, {which}")
            key = f"{name.lower().replace(' ', '_')}_{which}"
            results[key] = {"setting": str(setting), "rightly_share": rightly_told(peer), "cells": peer}
    _plots(options.out, results)
    return Measured(_inputs(options, recording, rollouts, tried), results, claims(found, milliseconds))


def _plots(out: Path, results: Mapping[str, Any]) -> None:
    shares = {
        "Nightshift": results["nightshift_rightly_share"],
        **{
            key.replace("_", " "): found["rightly_share"]
            for key, found in results.items()
            if isinstance(found, dict) and "rightly_share" in found
        },
    }
    curves = results["nightshift_operating_characteristics"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_name(f"{out.stem}-peers.svg").write_text(bars("Ended rightly: mean of good ones and bad ones", shares))
    for name, title in (("errors", "Share of failed requests"), ("first_token", "TTFT, times the stable revision's")):
        lines = {
            end: [(float(at), cell[f"{end.replace(' ', '_')}_share"]) for at, cell in curves[name].items()]
            for end in (PROMOTED, ROLLED_BACK)
        }
        out.with_name(f"{out.stem}-{name.replace('_', '-')}.svg").write_text(curve(title, lines))


def _inputs(options: argparse.Namespace, recording: Recording, rollouts: int, tried: int) -> dict[str, Any]:
    return {
        "rollouts_per_cell": rollouts,
        "rollouts_per_cell_and_setting_of_a_grid": tried,
        "requests_per_second": list(RATES),
        "recording": options.recording.name,
        "recording_engine": recording.engine,
        "recording_requests": len(recording.shots),
        "judged_half": options.half,
        "steps_percent": list(STEPS),
        "step_seconds": STEP_SECONDS,
        "deadline_seconds": DEADLINE_SECONDS,
        "golden_pairs_per_second": GOLDEN_PAIRS_PER_SECOND,
        "golden_questions": QUESTIONS,
        "errors_of_every_revision": BASE_ERRORS,
        "hang_within_seconds": HANG_WITHIN_SECONDS,
        "stand_ins": "clients, replicas, gateway and golden Job are simulated; the judgement is the operator's",
        "peers_reproduce": list(peers.examples()),
        "argo_note": "initialDelay of one interval; 0/0 is a failed measurement, as documented for a success condition",
        "flagger_note": "request-duration is the time to first token; by default at most 500 ms at the 99th percentile",
    }


def main() -> int:
    """The command line."""

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rollouts", type=int, default=2000, help="per cell")
        parser.add_argument("--recording", type=Path, default=RECORDED, help="of bench.analysis_recording")
        parser.add_argument(
            "--half", choices=("judging", "choosing"), default="judging", help="choosing: to try other rules"
        )

    return run("analysis", measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
