"""Starting, recording and ending processes, so that a recycled pid is never touched."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import procfs
from .settings import LOOPBACK, MARK, NETWORK, ClusterError, Settings

PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Record:
    """What is written down about a started process.

    Attributes:
        fingerprint: hash of everything that decides how it runs; another one means restart.
    """

    name: str
    pid: int
    start_ticks: int
    boot_id: str
    fingerprint: str


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file so that a reader, and a crash, sees the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.chmod(mode)
    partial.rename(path)


def read_record(settings: Settings, name: str) -> Record | None:
    """The record of a process, None when there is none or it is unreadable."""
    try:
        return Record(**json.loads((settings.pids / f"{name}.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def records(settings: Settings) -> list[Record]:
    """Every record."""
    found = (read_record(settings, path.stem) for path in sorted(settings.pids.glob("[!.]*.json")))
    return [record for record in found if record is not None]


def is_running(record: Record) -> bool:
    """Whether the very process of the record is alive."""
    if record.boot_id != procfs.boot_id():
        return False
    seen = procfs.read_process(record.pid)
    return seen is not None and seen.alive and seen.start_ticks == record.start_ticks


def past_proxies(inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep what goes to the local cluster away from a proxy; what was exempt stays so."""
    said = [inherited.get(name, "") for name in ("NO_PROXY", "no_proxy")]
    direct = ",".join(filter(None, dict.fromkeys([*said, LOOPBACK, "localhost", NETWORK])))
    return {"NO_PROXY": direct, "no_proxy": direct}


def environment(settings: Settings, extra: dict[str, str] | None = None) -> dict[str, str]:
    """A small environment of our own, with the mark by which remains are found."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if passed:
        passed |= past_proxies(os.environ)
    return {
        "PATH": f"{settings.bin}:{SYSTEM_PATH}",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        MARK: str(settings.home),
        **passed,
        **(extra or {}),
    }


def log_path(settings: Settings, name: str) -> Path:
    """The log of a process or build step."""
    return settings.logs / f"{name}.log"


def start(
    settings: Settings, name: str, argv: Sequence[str], fingerprint: str, extra: dict[str, str] | None = None
) -> Record:
    """Start a process in a session of its own and write its record; the log before is kept as ``.1``."""
    log = log_path(settings, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.rename(log.with_suffix(".log.1"))
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(settings, extra),
            cwd="/",
            start_new_session=True,
        )
    # It outlives this command on purpose; without a status Popen warns about that when it is collected.
    child.returncode = 0
    seen = procfs.read_process(child.pid)
    record = Record(name, child.pid, seen.start_ticks if seen else 0, procfs.boot_id(), fingerprint)
    write_atomically(settings.pids / f"{name}.json", json.dumps(asdict(record)))
    return record


def stop(settings: Settings, name: str, grace_seconds: float = 10.0) -> None:
    """End a recorded process and forget it; no record or a dead one is fine."""
    record = read_record(settings, name)
    if record is not None and is_running(record):
        seen = procfs.read_process(record.pid)
        if seen is not None:
            end([seen], grace_seconds)
    (settings.pids / f"{name}.json").unlink(missing_ok=True)


def signal_process(seen: procfs.Process, number: signal.Signals) -> bool:
    """Signal the process that was seen; False when it is gone, also when its pid was given to another."""
    try:
        handle = os.pidfd_open(seen.pid)
    except ProcessLookupError:
        return False
    try:
        now = procfs.read_process(seen.pid)
        if now is None or not now.alive or now.start_ticks != seen.start_ticks:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def end(seen: Iterable[procfs.Process], grace_seconds: float) -> None:
    """End processes: SIGTERM, and SIGKILL after ``grace_seconds`` (0 kills at once).

    Raises:
        ClusterError: one of them is still there ten seconds after SIGKILL.
    """
    left = list(seen)
    if grace_seconds > 0:
        left = [process for process in left if signal_process(process, signal.SIGTERM)]
        left = _wait_gone(left, grace_seconds)
    left = [process for process in left if signal_process(process, signal.SIGKILL)]
    left = _wait_gone(left, 10)
    if left:
        names = ", ".join(f"{process.command} ({process.pid})" for process in left)
        raise ClusterError(f"these processes do not end: {names}", "look at their state in `ps`; a reboot clears them")


def _wait_gone(left: list[procfs.Process], seconds: float) -> list[procfs.Process]:
    deadline = time.monotonic() + seconds
    while left:
        left = [process for process in left if _still_there(process)]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def _still_there(seen: procfs.Process) -> bool:
    now = procfs.read_process(seen.pid)
    return now is not None and now.alive and now.start_ticks == seen.start_ticks


def run(
    argv: Sequence[str],
    *,
    input_text: str | None = None,
    check: bool = True,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a short command and return its output.

    Args:
        argv: the command.
        input_text: for its standard input.
        check: whether a failure is an error.
        variables: its environment; by default ours, past proxies, as nearly all commands speak to the local cluster.

    Raises:
        ClusterError: it failed, or is not there.
    """
    inherited = os.environ | past_proxies(os.environ) if variables is None else variables
    try:
        done = subprocess.run(argv, input=input_text, capture_output=True, text=True, env=inherited, check=False)
    except FileNotFoundError as error:
        raise ClusterError(f"`{argv[0]}` is not installed", "run `python -m e2e.cluster up`: it installs it") from error
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise ClusterError(f"`{' '.join(argv)}` failed: {said}", "the message above is the command's own")
    return done


def wait_until(what: str, condition: Callable[[], bool], seconds: float, log: Path | None = None) -> None:
    """Poll ``condition`` until it holds.

    Raises:
        ClusterError: it did not hold within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            remedy = f"its log: {log}\n{tail(log)}" if log else "run `python -m e2e.cluster up` again"
            raise ClusterError(f"{what} within {seconds:.0f} s", remedy)
        time.sleep(0.1)


def tail(path: Path, lines: int = 15) -> str:
    """The end of a log, indented."""
    if not path.exists():
        return "     (no log)"
    return "\n".join(f"     {line}" for line in path.read_text(errors="replace").splitlines()[-lines:])
