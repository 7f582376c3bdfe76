"""Credentials for the watches: handed out again after a refusal, later each time, and never equal."""

import asyncio
import itertools
from typing import Any

import kopf
import pytest

from nightshift.runtime.login import FORGOTTEN_SECONDS, Login, wait_seconds
from tests.support.virtual_time import run

SAME = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="the same")


async def handed_out(login: Login, count: int, served_seconds: float = 0.0) -> list[tuple[float, Any]]:
    """When credentials were handed out, and which, where each was refused after it served for a while."""
    found = []
    for _ in range(count):
        credentials = await login()
        found.append((asyncio.get_running_loop().time(), credentials))
        await asyncio.sleep(served_seconds)
    return found


def test_refused_credentials_come_again_later_each_time_and_are_never_equal() -> None:
    found = run(handed_out(Login(lambda **_: SAME), 8))
    times = [moment for moment, _ in found]
    assert [round(b - a) for a, b in itertools.pairwise(times)] == [1, 2, 4, 8, 16, 30, 30]
    assert {credentials.token for _, credentials in found} == {"the same"}
    assert len({credentials.expiration for _, credentials in found}) == len(found)


def test_credentials_that_served_for_long_are_read_anew_at_once() -> None:
    found = run(handed_out(Login(lambda **_: SAME), 3, FORGOTTEN_SECONDS + 1))
    assert [round(moment - found[0][0]) for moment, _ in found] == [0, 61, 122]


def test_after_a_time_without_refusals_the_first_wait_is_short_again() -> None:
    async def body() -> float:
        login = Login(lambda **_: SAME)
        await handed_out(login, 6)
        await asyncio.sleep(FORGOTTEN_SECONDS)
        await login()
        began = asyncio.get_running_loop().time()
        await login()
        return asyncio.get_running_loop().time() - began

    assert run(body()) == pytest.approx(1)


def test_where_there_are_none_none_are_made_up() -> None:
    assert run(handed_out(Login(lambda **_: None), 1))[0][1] is None


def test_the_wait_has_a_bound() -> None:
    assert wait_seconds(10**6) == 30
