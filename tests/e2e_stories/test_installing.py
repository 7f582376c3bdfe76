"""Installing into a cluster that is somebody's."""

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import pytest

from e2e.support.client import Client, KubectlError
from e2e.support.install import HUB_URL, OthersReleaseError, spare_others_release


class Helm:
    """A helm that answers one question in one way."""

    def __init__(self, answer: str | KubectlError) -> None:
        self.answer = answer

    def helm(self, *_: str) -> str:
        if isinstance(self.answer, KubectlError):
            raise self.answer
        return self.answer


REFUSED = pytest.raises(OthersReleaseError, match="left as it is")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(KubectlError("Error: release: not found"), nullcontext(), id="there is no release"),
        pytest.param(f'{{"hubEndpoint": "{HUB_URL}"}}', nullcontext(), id="it was installed from here"),
        pytest.param('{"hubEndpoint": "https://hub.example"}', REFUSED, id="it has another Hub"),
        pytest.param("null", REFUSED, id="it has the values of the chart"),
        pytest.param(KubectlError("no answer"), pytest.raises(KubectlError), id="the cluster does not answer"),
    ],
)
def test_a_release_of_somebody_else_is_left_as_it_is(
    answer: str | KubectlError, expected: AbstractContextManager[object]
) -> None:
    with expected:
        spare_others_release(cast(Client, Helm(answer)))
