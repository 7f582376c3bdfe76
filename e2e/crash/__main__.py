"""``make crash``: end the operator's process before and after every kind of write, on the cluster in use."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import ClusterError
from e2e.crash.tales import TALES
from e2e.crash.walk import Point, Told, complaints, points, tell_all
from e2e.process.beside import operators_away
from e2e.setup import install_everything, prepare, say
from e2e.support.audit import audit_log
from e2e.support.client import Client, KubectlError
from e2e.support.direct import direct
from e2e.support.install import remove_stories
from e2e.support.lane import StepError
from e2e.support.rights import complaints as rights_complaints

IMAGES = ("operator", "tiny-hub", "vllm-sim:0.32.0")
SIDE_BY_SIDE = 8
SIMULATED = "the operator of this checkout as a process with the chart's rights, engines: simulator"


def walk(client: Client, directory: Path, side_by_side: int, only: str) -> tuple[list[Told], list[str]]:
    """Tell every tale undisturbed, then once for each point; all tellings with a crash, and what is wrong."""
    audit = audit_log(client.access)
    with operators_away(client), direct(client) as looking:
        mark = audit.mark() if audit else None
        say(f"{len(TALES)} tales, undisturbed")
        first = tell_all(looking, (Point(tale, "") for tale in TALES), directory / "undisturbed", side_by_side)
        chosen = [point for point in points({told.point.tale: told.writes for told in first}) if only in point.kill]
        say(f"{len(chosen)} crash points, {side_by_side} side by side")
        crashed = tell_all(looking, chosen, directory / "crashed", side_by_side)
        wrong = complaints(first, crashed)
        if audit is not None and mark is not None:
            wrong += rights_complaints(audit.since(mark))
    return crashed, wrong


def table(crashed: Sequence[Told]) -> str:
    """One line for each crash point."""
    return "\n".join(f"  {told.seconds:6.1f} s  {told.point.tale:<28} {told.point.kill}" for told in crashed)


def main() -> int:
    """Walk; 0 where every end state is the one without a crash."""
    parser = argparse.ArgumentParser(prog="python -m e2e.crash", description=__doc__)
    parser.add_argument("--side-by-side", type=int, default=SIDE_BY_SIDE, help="tellings at the same time")
    parser.add_argument("--only", default="", help="only points whose name contains this, such as 'delete Pod'")
    parser.add_argument("--keep", type=Path, help="where the processes' logs are kept")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        client = prepare("the crash walk", IMAGES)
        if not client.access.local:
            raise StepError("the crash walk runs beside the local cluster, whose pods it reaches: unset KUBECONFIG")
        remove_stories(client)
        install_everything(client)
        with tempfile.TemporaryDirectory(prefix="nightshift-crash-") as name:
            crashed, wrong = walk(client, options.keep or Path(name), options.side_by_side, options.only)
    except (ClusterError, StepError, KubectlError) as error:
        print(f"The crash walk stopped: {error}", file=sys.stderr)
        return 1
    print(f"\n{table(crashed)}")
    for text in wrong:
        print(f"\nWRONG: {text}", file=sys.stderr)
    kinds = sorted({told.point.write for told in crashed})
    print(f"\n{len(crashed)} crash points: before and after each of {len(kinds)} kinds of write: {', '.join(kinds)}")
    print(f"{SIMULATED}; {len(wrong)} wrong; {time.monotonic() - started:.0f} s")
    return 1 if wrong or not crashed else 0


if __name__ == "__main__":
    sys.exit(main())
