"""Options that all tests know."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate",
        action="store_true",
        help="write the golden files anew instead of comparing with them; read the diff before committing it",
    )
    parser.addoption(
        "--every-crash-point",
        action="store_true",
        help="end the simulated process at every write of every story (minutes), not at every sixth",
    )
    parser.addoption("--seeds", type=int, default=10, help="how many orders of events each simulation tries")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Simulations take a `seed`."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds")))


@pytest.fixture
def regenerate(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--regenerate"))
