"""HAProxy's lines on the agent's standard output."""

import logging
import threading

import pytest

from nightshift.gateway.request_log import PENDING_BYTES, RequestLog


def test_lines_come_in_their_order_and_all_before_the_end() -> None:
    written: list[bytes] = []
    log = RequestLog(written.append)
    log.add(b"one\ntwo\n")
    log.add(b"")
    log.add("three ☾\n".encode())
    log.close()
    assert b"".join(written).decode() == "one\ntwo\nthree ☾\n"


def test_who_does_not_read_keeps_nobody_waiting_and_is_told_later_what_is_missing() -> None:
    written: list[bytes] = []
    reading = threading.Event()

    def write(block: bytes) -> None:
        reading.wait(30)
        written.append(block)

    log = RequestLog(write)
    line = b"x" * 1023 + b"\n"
    many = PENDING_BYTES // 1024
    for _ in range(many + 3):
        log.add(line)
    log.add(line + line)
    reading.set()
    while len(written) < many:
        log.add(b"")
    log.add(b"again\n")
    log.close()
    text = b"".join(written).decode()
    assert text.endswith("\n5 lines dropped: standard output was not read in time\nagain\n")
    assert text.count(line.decode()) == many


def test_a_standard_output_that_is_closed_is_told_once_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(block: bytes) -> None:
        raise BrokenPipeError("nobody reads")

    with caplog.at_level(logging.WARNING):
        log = RequestLog(broken)
        for _ in range(3):
            log.add(b"line\n")
        log.close()
    assert [record.message for record in caplog.records] == [
        "Lines of requests cannot be written to standard output and are left out: nobody reads"
    ]
