"""Options that all tests know, and which of them share a process where they run side by side."""

import re

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.real_haproxy import BINARIES, OF_THE_IMAGE

TOGETHER = re.compile(
    r"(tests/runtime/test_api_faults\.py)"  # one operator's process
    r"|(tests/contract/test_simulator\.py)::\w+\[(\d+\.\d+\.\d+)"  # one run of the simulator per version
)
"""Tests that share an expensive fixture, by what their node ids have in common."""


class Together(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a worker one test after the other, and those that share a fixture all to the same.

    pytest-xdist 3.8.0 means to do so by its mark ``xdist_group``, but marks node ids by an attribute that pytest 9.2
    does not read any more: every worker set up everything.
    """

    def _split_scope(self, nodeid: str) -> str:
        found = TOGETHER.match(nodeid)
        return " ".join(filter(None, found.groups())) if found else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    """Side by side as said above, whatever --dist says."""
    return Together(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate",
        action="store_true",
        help="write the golden files anew instead of comparing with them; read the diff before committing it",
    )
    parser.addoption(
        "--every-crash-point",
        action="store_true",
        help="end the simulated process at every write of every story (minutes), not at every twelfth",
    )
    parser.addoption(
        "--every-haproxy",
        action="store_true",
        help="run the gateway's tests on every HAProxy that this machine has, not on the image's alone",
    )
    parser.addoption("--rollouts", type=int, default=500, help="how many judged rollouts the fake fleet goes through")
    parser.addoption("--seeds", type=int, default=6, help="how many orders of events each simulation tries")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Simulations take a `seed`, tests of the gateway a `haproxy_version`."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds")))
    if "rollouts" in metafunc.fixturenames:
        together = metafunc.config.getoption("--rollouts")
        metafunc.parametrize("rollouts", [range(at, min(at + 50, together)) for at in range(0, together, 50)], ids=str)
    if "haproxy_version" in metafunc.fixturenames:
        every = metafunc.config.getoption("--every-haproxy")
        metafunc.parametrize("haproxy_version", sorted(BINARIES) if every else [OF_THE_IMAGE])


@pytest.fixture
def regenerate(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--regenerate"))
