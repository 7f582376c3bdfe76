"""What the conditions say in each state, and that they follow the rules of kstatus."""

from collections.abc import Callable

import pytest

from tests.support.simulation import Simulation
from tests.support.states import (
    DONE,
    SAFE,
    SERVES,
    UNPAUSED,
    broken_change,
    broken_first_revision,
    crashed_replica,
    downloading_into_a_claim,
    draining,
    first_step,
    gated,
    no_gpu,
    no_image,
    no_tag,
    off,
    paused,
    paused_at_rest,
    rolling,
    scaling_up,
    serving,
    told,
    waits_for_the_registry,
)


@pytest.mark.parametrize(
    ("state", "ready", "available", "progressing", "reconciling", "stalled"),
    [
        pytest.param(
            first_step,
            ("False", "Preparing"),
            ("False", "NoReadyReplicas"),
            ("True", "Preparing"),
            ("True", "Preparing"),
            SAFE,
            id="just created",
        ),
        pytest.param(
            waits_for_the_registry,
            ("False", "Preparing"),
            ("False", "NoReadyReplicas"),
            ("True", "Preparing"),
            ("True", "Preparing"),
            SAFE,
            id="the registry is being asked",
        ),
        pytest.param(serving, SERVES, SERVES, DONE, DONE, SAFE, id="serving"),
        pytest.param(
            rolling,
            ("False", "ReplacingRevision"),
            SERVES,
            ("True", "ReplacingRevision"),
            ("True", "ReplacingRevision"),
            SAFE,
            id="a change by the user is being rolled out",
        ),
        pytest.param(
            draining,
            ("False", "ReplacingRevision"),
            SERVES,
            ("True", "ReplacingRevision"),
            ("True", "ReplacingRevision"),
            SAFE,
            id="the new revision serves and the old one still drains",
        ),
        pytest.param(
            scaling_up,
            ("False", "Scaling"),
            SERVES,
            ("True", "Scaling"),
            ("True", "Scaling"),
            SAFE,
            id="one replica more was asked for",
        ),
        pytest.param(off, ("True", "Off"), ("False", "NoReadyReplicas"), DONE, DONE, SAFE, id="off, as asked"),
        pytest.param(
            broken_first_revision,
            ("False", "EngineArgsRejected"),
            ("False", "NoReadyReplicas"),
            ("False", "EngineArgsRejected"),
            ("False", "EngineArgsRejected"),
            ("True", "EngineArgsRejected"),
            id="the first revision is broken",
        ),
        pytest.param(
            broken_change,
            ("False", "EngineArgsRejected"),
            SERVES,
            ("False", "EngineArgsRejected"),
            ("False", "EngineArgsRejected"),
            ("True", "EngineArgsRejected"),
            id="a change is broken, and what served before goes on",
        ),
        pytest.param(
            crashed_replica,
            ("False", "EngineCrashed"),
            SERVES,
            ("False", "EngineCrashed"),
            ("True", "EngineCrashed"),
            SAFE,
            id="one of two replicas crashed",
        ),
        pytest.param(
            no_gpu,
            ("False", "NoGpuCapacity"),
            SERVES,
            ("False", "NoGpuCapacity"),
            ("True", "NoGpuCapacity"),
            SAFE,
            id="one GPU too few: it may come",
        ),
        pytest.param(
            no_image,
            ("False", "ImagePullFailed"),
            ("False", "NoReadyReplicas"),
            ("False", "ImagePullFailed"),
            ("True", "ImagePullFailed"),
            SAFE,
            id="the node cannot pull: it may pass",
        ),
        pytest.param(
            no_tag,
            ("False", "ImagePullFailed"),
            ("False", "NoReadyReplicas"),
            ("False", "ImagePullFailed"),
            ("False", "ImagePullFailed"),
            ("True", "ImagePullFailed"),
            id="the registry has no such tag",
        ),
        pytest.param(
            gated,
            ("False", "ModelAccessDenied"),
            ("False", "NoReadyReplicas"),
            ("False", "ModelAccessDenied"),
            ("False", "ModelAccessDenied"),
            ("True", "ModelAccessDenied"),
            id="the model is gated",
        ),
        pytest.param(
            downloading_into_a_claim,
            ("False", "Preparing"),
            ("False", "NoReadyReplicas"),
            ("True", "Preparing"),
            ("True", "Preparing"),
            SAFE,
            id="the model is being downloaded into the claim",
        ),
        pytest.param(
            paused,
            ("False", "Paused"),
            SERVES,
            ("False", "Paused"),
            ("False", "Paused"),
            SAFE,
            id="paused with a change that waits",
        ),
        pytest.param(paused_at_rest, SERVES, SERVES, DONE, DONE, SAFE, id="paused with nothing to change"),
    ],
)
def test_what_the_conditions_say(
    state: Callable[[], Simulation],
    ready: tuple[str, str],
    available: tuple[str, str],
    progressing: tuple[str, str],
    reconciling: tuple[str, str],
    stalled: tuple[str, str],
) -> None:
    simulation = state()
    stopped = simulation.body["spec"].get("paused", False)
    assert told(simulation) == {
        "Ready": ready,
        "Available": available,
        "Progressing": progressing,
        "Reconciling": reconciling,
        "Stalled": stalled,
        "Paused": ("True", "Paused") if stopped else UNPAUSED,
    }
    generation = simulation.body["metadata"]["generation"]
    assert simulation.status().observed_generation == generation
    assert {item.observed_generation for item in simulation.status().conditions} == {generation}
    assert "True" not in (reconciling[0], stalled[0]) or (reconciling[0] != stalled[0])
