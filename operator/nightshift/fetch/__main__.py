"""`python -m nightshift.fetch resolve|inspect|download|resolve-adapter|adapters`: the entry of the model containers.

Environment: HF_TOKEN (from a Secret, optional), HF_ENDPOINT (another Hub, optional). Exit status: 0 when
resolved or downloaded, 1 when failed, 2 for wrong arguments. The outcome goes to the termination log and,
as the last line, to stdout; progress lines go to stdout before it. `adapters` serves until it is stopped.
"""

import argparse
import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightshift.api.fetch import Failed, FetchOutcome, FetchReason, Inspected, Progress, to_line
from nightshift.core.model_uri import HubModel, parse_model_uri

_SHA = re.compile(r"[0-9a-f]{40}")
_CLIENT_SWITCHES = (
    "HF_HUB_DISABLE_XET",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_DISABLE_PROGRESS_BARS",
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    arguments = _parser().parse_args(argv)
    # Read by the client when it is imported. Its own storage protocol is off because it can neither go on
    # within a file nor be watched; nothing may be reported home, and no token on the disk is to be used.
    os.environ.update(dict.fromkeys(_CLIENT_SWITCHES, "1"))
    token = os.environ.pop("HF_TOKEN", "").strip()
    if arguments.command == "adapters":
        return _keep_adapters(arguments, token)
    try:
        outcome = _inspect(arguments.path) if arguments.command == "inspect" else _run(arguments, token)
    except Exception:
        # The log is what is left to tell it.
        text = traceback.format_exc()
        sys.stderr.write(text.replace(token, "[token]") if token else text)
        return 1
    line = to_line(outcome)
    _write_termination_log(arguments.termination_log, line)
    _say(line)
    return 1 if isinstance(outcome, Failed) else 0


def _inspect(directory: Path) -> FetchOutcome:
    from nightshift.fetch.facts import directory_facts

    return Inspected(facts=directory_facts(directory))


def _token_problem(token: str) -> Failed | None:
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        return Failed(
            reason=FetchReason.MODEL_ACCESS_DENIED,
            message="The Secret of spec.model.tokenSecretRef holds no Hub token: it has characters that no "
            "token has; put the token alone into it.",
        )
    return None


def _run(arguments: argparse.Namespace, token: str) -> FetchOutcome:
    problem = _token_problem(token)
    if problem is not None:
        return problem
    # Imported late: the client reads its settings from the environment while it is imported.
    from nightshift.adapters.hub import Hub
    from nightshift.fetch.download import download
    from nightshift.fetch.resolve import resolve
    from nightshift.fetch.room import Room
    from nightshift.fetch.supervise import supervise

    repository = arguments.uri.repository
    if arguments.command == "resolve-adapter":
        return _resolve_adapter(arguments, token)
    hub = Hub(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    if arguments.command == "resolve":
        return supervise(
            lambda meter: resolve(hub, repository, arguments.revision, meter),
            limit_seconds=arguments.deadline_seconds,
            report=_report,
        )
    room = None if arguments.in_use is None else Room(arguments.in_use, arguments.kept)
    try:
        return supervise(
            lambda meter: download(hub, repository, arguments.sha, arguments.to, meter, room=room),
            limit_seconds=arguments.stall_seconds,
            report=_report,
        )
    except OSError as error:
        return _cache_failure(error)


def _resolve_adapter(arguments: argparse.Namespace, token: str) -> FetchOutcome:
    from nightshift.adapters.hub import Hub
    from nightshift.fetch.adapter import as_adapters, resolve_adapter
    from nightshift.fetch.supervise import supervise

    hub = Hub(os.environ.get("HF_ENDPOINT"), token, field="spec.adapters[]")
    outcome = supervise(
        lambda meter: resolve_adapter(hub, arguments.uri.repository, arguments.revision, meter),
        limit_seconds=arguments.deadline_seconds,
        report=_report,
    )
    return as_adapters(outcome) if isinstance(outcome, Failed) else outcome


def _keep_adapters(arguments: argparse.Namespace, token: str) -> int:
    """Fetch adapters as they are asked for, until the process is told to stop."""
    from nightshift.adapters.hub import Hub
    from nightshift.fetch.adapter import as_adapters, check, select_adapter
    from nightshift.fetch.download import download
    from nightshift.fetch.sidecar import Keeper, serve
    from nightshift.fetch.supervise import supervise

    hub = Hub(os.environ.get("HF_ENDPOINT"), token, field="spec.adapters[]")

    def fetch(repository: str, sha: str, directory: Path) -> FetchOutcome:
        outcome = _token_problem(token) or supervise(
            lambda meter: download(hub, repository, sha, directory, meter, select_adapter),
            limit_seconds=arguments.stall_seconds,
            report=_report,
        )
        outcome = as_adapters(outcome) if isinstance(outcome, Failed) else outcome
        _say(to_line(outcome))
        return outcome

    keeper = Keeper(arguments.to, fetch, lambda directory: check(directory, arguments.base))
    server = serve(keeper, arguments.port)
    threading.Thread(target=server.serve_forever, name="adapters-http", daemon=True).start()
    keeper.run()
    return 0


def _cache_failure(error: OSError) -> Failed:
    from nightshift.fetch.download import CACHE_REMEDY

    if error.errno in _FULL:
        return Failed(
            reason=FetchReason.MODEL_CACHE_FULL,
            message=f"The model's cache is full; {CACHE_REMEDY}.",
        )
    return Failed(
        reason=FetchReason.MODEL_CACHE_UNUSABLE,
        message=f"The model's cache cannot be used: {error.strerror or error} ({error.filename}); check the "
        "volume's access mode, owner and fsGroup.",
    )


def _report(progress: Progress) -> None:
    _say(to_line(progress))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _write_termination_log(path: Path, line: str) -> None:
    try:
        path.write_text(line, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"The outcome could not be written to {path}: {error.strerror}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nightshift.fetch", description="Fetch a model from a Hub.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--uri", type=_hub_model, required=True, help="hf://ORG/NAME")
    log: dict[str, Any] = {"type": Path, "default": Path("/dev/termination-log")}
    common.add_argument("--termination-log", **log)
    commands = parser.add_subparsers(dest="command", required=True)
    resolve = commands.add_parser("resolve", parents=[common], help="name the commit of a revision")
    resolve.add_argument("--revision", default="main", help="branch, tag or commit (default: main)")
    resolve.add_argument("--deadline-seconds", type=_positive, default=60.0, help="give up after (default: 60)")
    inspect = commands.add_parser("inspect", help="say what a model's directory holds")
    inspect.add_argument("--path", type=Path, required=True, help="directory of the model, only read")
    inspect.add_argument("--termination-log", **log)
    download = commands.add_parser("download", parents=[common], help="bring a commit into a directory")
    download.add_argument("--sha", type=_commit, required=True, help="full commit id")
    download.add_argument("--to", type=Path, required=True, help="directory, made when missing")
    download.add_argument(
        "--stall-seconds", type=_positive, default=600.0, help="give up after so long without a byte (default: 600)"
    )
    download.add_argument(
        "--in-use", type=_commits, help="commits beside it that are never removed; without this none is"
    )
    download.add_argument(
        "--kept", type=_commits, default=frozenset(), help="commits beside it that go only where room is short"
    )
    resolve_adapter = commands.add_parser("resolve-adapter", parents=[common], help="name the commit of an adapter")
    resolve_adapter.add_argument("--revision", default="main", help="branch, tag or commit (default: main)")
    resolve_adapter.add_argument("--deadline-seconds", type=_positive, default=60.0, help="give up after (default: 60)")
    adapters = commands.add_parser("adapters", help="fetch adapters as they are asked for, until stopped")
    adapters.add_argument("--to", type=Path, required=True, help="directory, one below it per commit")
    adapters.add_argument("--base", type=Path, required=True, help="directory of the base model")
    adapters.add_argument("--port", type=int, required=True, help="port that PUT /adapters is answered on")
    adapters.add_argument("--stall-seconds", type=_positive, default=120.0, help="as for download (default: 120)")
    return parser


def _hub_model(text: str) -> HubModel:
    try:
        model = parse_model_uri(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not isinstance(model, HubModel):
        raise argparse.ArgumentTypeError("only hf:// models are fetched")
    return model


def _commit(text: str) -> str:
    if not _SHA.fullmatch(text):
        raise argparse.ArgumentTypeError("not a full commit id")
    return text


def _commits(text: str) -> frozenset[str]:
    return frozenset(_commit(item) for item in text.split(",") if item)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


if __name__ == "__main__":
    # As a container's first process this one would ignore SIGTERM, and every deletion would wait for SIGKILL.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
