"""`python -m nightshift.evaluate`: ask golden questions of a stable and of a candidate engine.

Exit status: 0 when some were asked of both, 1 when none was, 2 for wrong arguments. The outcome goes to the termination
log and, as the last line, to stdout. Questions and answers are written nowhere.
"""

import argparse
import asyncio
import secrets
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from nightshift.api.golden import MAX_QUESTIONS
from nightshift.api.golden_run import GoldenFailed, GoldenOutcome, to_line
from nightshift.core.golden.builtin import with_builtin
from nightshift.core.golden.packing import MAX_PAIRS
from nightshift.evaluate.asking import Manner
from nightshift.evaluate.evaluation import Side, Slice, evaluate, read_set


def main(argv: Sequence[str] | None = None) -> int:
    """Run once; the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        outcome = _run(arguments)
    except Exception:
        # The log is what is left to tell it.
        sys.stderr.write(traceback.format_exc())
        return 1
    line = to_line(outcome)
    try:
        arguments.termination_log.write_text(line, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"The outcome could not be written to {arguments.termination_log}: {error.strerror}\n")
    _say(line)
    return 1 if isinstance(outcome, GoldenFailed) else 0


def _run(arguments: argparse.Namespace) -> GoldenOutcome:
    golden = read_set(arguments.set, arguments.source)
    if isinstance(golden, GoldenFailed):
        return golden
    if len(golden.questions) < arguments.least:
        golden = with_builtin(golden)
    manner = Manner(
        seed=arguments.seed,
        salt=secrets.token_hex(8),
        concurrency=arguments.concurrency,
        question_seconds=arguments.question_seconds,
        total_seconds=arguments.total_seconds,
        logprobs=arguments.logprobs,
    )
    stable = _side(arguments.stable, arguments.stable_model)
    candidate = _side(arguments.candidate, arguments.candidate_model)
    part = Slice(arguments.start, arguments.count, arguments.only)
    return asyncio.run(evaluate(golden, part, stable, candidate, manner, lambda: datetime.now(UTC), _say))


def _side(address: tuple[str, int], model: str) -> Side:
    return Side(address[0], address[1], model)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nightshift.evaluate", description="Ask golden questions.")
    for side in ("stable", "candidate"):
        parser.add_argument(f"--{side}", type=_address, required=True, help="ADDRESS:PORT of its engine")
        parser.add_argument(f"--{side}-model", required=True, help="name that its model is served by")
    parser.add_argument("--set", type=Path, help="the golden set (default: the built-in one)")
    parser.add_argument("--source", default="a file", help="where the set comes from, for people")
    parser.add_argument(
        "--least", type=_whole(0, MAX_QUESTIONS), default=0, help="a smaller set is asked with the built-in questions"
    )
    parser.add_argument("--start", type=_whole(0, MAX_QUESTIONS), default=0, help="place of the first question, from 0")
    parser.add_argument("--count", type=_whole(1, MAX_PAIRS), default=MAX_PAIRS, help="questions to ask (default: 150)")
    parser.add_argument("--only", type=_places, default=frozenset(), help="places of those that are asked, as 3,17")
    parser.add_argument("--seed", default="", help="decides the order of the questions")
    parser.add_argument(
        "--concurrency", type=_whole(1, 64), default=1, help="questions at a time for each engine (default: 1)"
    )
    parser.add_argument("--logprobs", type=_whole(0, 20), default=5, help="likeliest first tokens (default: 5)")
    parser.add_argument("--question-seconds", type=_positive, default=120.0, help="for one answer (default: 120)")
    parser.add_argument("--total-seconds", type=_positive, default=900.0, help="for all of them (default: 900)")
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    try:
        return str(ip_address(host.removeprefix("[").removesuffix("]"))), _whole(1, 65535)(port)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not ADDRESS:PORT ({error})") from error


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else -1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}")
        return number

    return read


def _places(text: str) -> frozenset[int]:
    read = _whole(0, MAX_QUESTIONS)
    return frozenset(read(place) for place in text.split(","))


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


if __name__ == "__main__":
    # As a container's first process this one would ignore SIGTERM, and every deletion would wait for SIGKILL.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
