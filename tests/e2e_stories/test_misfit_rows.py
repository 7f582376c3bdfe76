"""The rows of bad inputs that are refused before anything is made, without a cluster."""

import copy

import pytest

from e2e.stories.bad_inputs import FIT, BadInput
from e2e.support.install import values
from nightshift.api.config import AcceleratorProfile
from nightshift.core.preflight import refusal
from nightshift.core.revisions import carried
from tests.core.fit.fit_models import facts_of
from tests.support.builders import config, wanted_of


class _Access:
    registry, plain_http, image_prefix = "registry.example", False, "registry.example"


class _Client:
    access = _Access()


@pytest.mark.parametrize("row", FIT, ids=lambda row: row.what)
def test_what_cannot_fit_is_named(row: BadInput) -> None:
    offered = values(_Client(), "registry.example/operator:1")["accelerators"]  # type: ignore[arg-type]
    profiles = {name: AcceleratorProfile.model_validate(profile) for name, profile in offered.items()}
    chosen = config(accelerators=profiles)
    wanted = wanted_of(
        {"model": {"uri": "hf://nightshift/tiny"}, **copy.deepcopy(dict(row.spec)), "engine": row.engine}
    )
    resolved = carried(wanted, None, chosen).model_copy(update={"engine_version": "0.32.0"})
    profile = profiles.get(resolved.accelerator, AcceleratorProfile())
    cause = refusal(facts_of("tiny"), wanted, resolved, profile)
    assert cause is not None
    assert (cause.reason, cause.definite) == (row.reason, True)
    assert [words for words in row.says if words not in cause.message] == [], cause.message
