import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from e2e.cluster import processes, procfs, remains
from e2e.cluster.processes import (
    Record,
    end,
    environment,
    is_running,
    log_path,
    read_record,
    records,
    signal_process,
    start,
    stop,
    tail,
    wait_until,
    write_atomically,
)
from e2e.cluster.settings import ClusterError, Settings

MARK = "NIGHTSHIFT_TEST_CLUSTER"
SLEEPER = [sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    # With the real mark, a cluster that starts meanwhile would take these for another one's remains.
    for module in (procfs, processes):
        monkeypatch.setattr(module, "MARK", MARK)
    found = Settings(tmp_path)
    yield found
    end(remains.marked(tmp_path), 0)


def wait_for_log(settings: Settings, name: str, text: str) -> None:
    log = log_path(settings, name)
    wait_until(f"{name} said nothing", lambda: log.exists() and text in log.read_text(), 20)


def test_a_started_process_is_recorded_marked_and_stopped(settings: Settings) -> None:
    record = start(settings, "sleeper", SLEEPER, "f1")
    assert read_record(settings, "sleeper") == record
    assert records(settings) == [record]
    assert is_running(record)
    assert [seen.pid for seen in remains.marked(settings.home)] == [record.pid]
    wait_for_log(settings, "sleeper", "hello")
    stop(settings, "sleeper")
    assert not is_running(record)
    assert read_record(settings, "sleeper") is None


def test_a_recycled_pid_is_not_ours_and_is_not_ended(settings: Settings) -> None:
    record = start(settings, "sleeper", SLEEPER, "f1")
    recycled = replace(record, start_ticks=record.start_ticks - 1)
    write_atomically(settings.pids / "sleeper.json", json.dumps(asdict(recycled)))
    assert not is_running(recycled)
    stop(settings, "sleeper")
    assert is_running(record)


def test_a_process_of_an_earlier_boot_is_not_running(settings: Settings) -> None:
    record = start(settings, "sleeper", SLEEPER, "f1")
    assert not is_running(replace(record, boot_id="another"))


def test_a_signal_does_not_reach_the_successor_of_a_pid(settings: Settings) -> None:
    record = start(settings, "sleeper", SLEEPER, "f1")
    seen = procfs.read_process(record.pid)
    assert seen is not None
    assert not signal_process(replace(seen, start_ticks=seen.start_ticks + 1), signal.SIGKILL)
    assert is_running(record)
    assert signal_process(seen, signal.SIGKILL)


def test_a_deaf_process_is_killed_after_the_grace(settings: Settings) -> None:
    record = start(settings, "deaf", STUBBORN, "f1")
    wait_for_log(settings, "deaf", "deaf")
    began = time.monotonic()
    stop(settings, "deaf", grace_seconds=0.3)
    assert not is_running(record)
    assert time.monotonic() - began >= 0.3


def test_the_log_of_the_run_before_is_kept(settings: Settings) -> None:
    start(settings, "sleeper", SLEEPER, "f1")
    wait_for_log(settings, "sleeper", "hello")
    stop(settings, "sleeper")
    start(settings, "sleeper", SLEEPER, "f1")
    assert (settings.logs / "sleeper.log.1").read_text() == "hello\n"


def test_unrecorded_processes_are_found_and_ended(settings: Settings) -> None:
    kept = start(settings, "kept", SLEEPER, "f1")
    lost = start(settings, "lost", SLEEPER, "f1")
    (settings.pids / "lost.json").unlink()
    assert remains.clear_strays(settings) == 1
    assert is_running(kept)
    assert not is_running(lost)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_record_counts_as_none(settings: Settings, content: str) -> None:
    write_atomically(settings.pids / "x.json", content)
    assert read_record(settings, "x") is None


def test_a_half_written_record_is_not_listed(settings: Settings) -> None:
    settings.pids.mkdir(parents=True)
    record = Record("x", 1, 2, "b", "f")
    (settings.pids / ".x.json.partial").write_text(json.dumps(asdict(record)))
    assert records(settings) == []


def test_the_environment_is_ours_and_knows_the_proxy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "corp")
    found = environment(settings, {"EXTRA": "1"})
    assert "SECRET" not in found
    assert found[MARK] == str(settings.home)
    assert found["NO_PROXY"] == "corp,127.0.0.1,localhost,10.250.0.0/16"
    assert found["EXTRA"] == "1"


def test_waiting_ends_with_the_log(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("one\ntwo\nthree\n")
    with pytest.raises(ClusterError, match="three"):
        wait_until("never", lambda: False, 0.2, log)
    assert tail(log, 1) == "     three"


def test_only_one_command_at_a_time(settings: Settings) -> None:
    assert not remains.is_locked(settings)
    with remains.exclusive(settings):
        assert remains.is_locked(settings)
        with pytest.raises(ClusterError, match="another command"), remains.exclusive(settings, wait_seconds=0.3):
            pass
    assert not remains.is_locked(settings)
