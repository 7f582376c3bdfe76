"""Which Jobs go when a spec changes, or when what they told is known."""

import pytest

from nightshift.api import names
from nightshift.core.fetch_jobs import superseded
from nightshift.core.observed import JobFacts, Observed

JOBS = {
    "resolve-now": names.COMPONENT_RESOLVE,
    "resolve-before": names.COMPONENT_RESOLVE,
    "preflight-now": names.COMPONENT_PREFLIGHT,
    "preflight-before": names.COMPONENT_PREFLIGHT,
}


def observed(*, ended: bool = False) -> Observed:
    jobs = tuple(
        JobFacts(name=name, component=component, succeeded=ended, failed=False, finished_at=None, annotations={})
        for name, component in JOBS.items()
    )
    return Observed(
        jobs=jobs, live={("Job", name): {"metadata": {"uid": name, "resourceVersion": "1"}} for name in JOBS}
    )


@pytest.mark.parametrize(
    ("awaited", "ended", "gone"),
    [
        pytest.param("resolve-now", False, ["resolve-before"], id="while a commit is looked for, images' answers stay"),
        pytest.param(
            "preflight-now", False, ["preflight-before"], id="while an image is asked, what told of the model stays"
        ),
        pytest.param("not-made-yet", False, [], id="nothing goes before what is awaited is there"),
        pytest.param(None, False, sorted(JOBS), id="once nothing is awaited all go"),
        pytest.param(
            None, True, ["preflight-before", "preflight-now"], id="what resolved goes by itself once it ended"
        ),
    ],
)
def test_which_jobs_go(awaited: str | None, ended: bool, gone: list[str]) -> None:
    assert sorted(item.name for item in superseded(observed(ended=ended), awaited)) == gone
