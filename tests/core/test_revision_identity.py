from typing import Any

import pytest

from nightshift.api.revision import RevisionSpec
from nightshift.api.spec import HardwareCandidate, TrafficSpec
from nightshift.core.revisions import (
    Revision,
    build,
    carried,
    find,
    newest,
    obsolete,
    on_candidate,
    parse_revision,
    places,
    same_but_place,
)
from tests.support.builders import (
    DIGEST,
    HUB_MODEL,
    OTHER_DIGEST,
    SHA,
    config,
    model_spec,
    revision,
    wanted_of,
)
from tests.support.simulation import with_accelerators

EXPLICIT = model_spec(
    engine={"args": [], "env": [], "startDeadlineSeconds": 1800},
    replicas=1,
    scaling={"mode": "Manual"},
    traffic={"mode": "Service", "drainSeconds": 600},
    revisionHistoryLimit=5,
    paused=False,
)


def hub(**model: Any) -> dict[str, Any]:
    return {"model": {"uri": HUB_MODEL, **model}}


def changed(stored: Revision, **fields: Any) -> Revision:
    manifest = stored.manifest
    found = parse_revision({**manifest, "data": {**manifest["data"], **fields}})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(model_spec(), model_spec(), id="the same spec"),
        pytest.param(model_spec(), EXPLICIT, id="a spec that writes the defaults out"),
        pytest.param(EXPLICIT, model_spec(), id="a spec that leaves them out again"),
        pytest.param(model_spec(), model_spec(replicas=7), id="another number of replicas"),
        pytest.param(model_spec(), model_spec(paused=True), id="a pause"),
        pytest.param(model_spec(), model_spec(revisionHistoryLimit=1), id="another history limit"),
        pytest.param(model_spec(), model_spec(traffic={"mode": "Service", "allowFrom": []}), id="other clients"),
        pytest.param(model_spec(), model_spec(traffic={"mode": "Gateway"}), id="by the gateway"),
        pytest.param(model_spec(), model_spec(traffic={"queue": {}, "affinity": "Session"}), id="another queue"),
        pytest.param(model_spec(), model_spec(podTemplate={}), id="an empty pod template"),
        pytest.param(hub(), hub(cache={"type": "Pod"}), id="the default cache written out"),
        pytest.param(hub(cache={"type": "Pod"}), hub(), id="the default cache left out again"),
        pytest.param(hub(), hub(revision="main"), id="the default branch written out"),
        pytest.param(hub(revision="main"), hub(), id="the default branch left out again"),
        pytest.param(model_spec(), model_spec(engine={"version": "0.32.0"}), id="the version that runs written out"),
        pytest.param(
            model_spec(), model_spec(engine={"image": "registry.example/vllm"}), id="the image that runs written out"
        ),
    ],
)
def test_what_does_not_touch_pods_finds_the_revision_again(before: dict[str, Any], after: dict[str, Any]) -> None:
    stored = revision(before)
    assert find((stored,), wanted_of(after)) == stored


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(model_spec(engine={"args": ["--seed=1"]}), id="an argument"),
        pytest.param(model_spec(engine={"env": [{"name": "A", "value": "b"}]}), id="a variable"),
        pytest.param(model_spec(engine={"startDeadlineSeconds": 60}), id="the start deadline"),
        pytest.param(model_spec(engine={"version": "0.31.0"}), id="the version"),
        pytest.param(model_spec(traffic={"drainSeconds": 60}), id="the time to drain"),
        pytest.param(model_spec(podTemplate={"nodeSelector": {"a": "b"}}), id="the pod template"),
        pytest.param(model_spec(hardware={"candidates": [{"accelerator": "cpu"}]}), id="the hardware"),
        pytest.param({"model": {"uri": HUB_MODEL, "revision": "main"}}, id="the model's revision"),
        pytest.param({"model": {"uri": "pvc://models"}}, id="the model"),
        pytest.param({"model": {"uri": HUB_MODEL, "revision": SHA, "quantization": "fp8"}}, id="the quantization"),
        pytest.param({"model": {"uri": HUB_MODEL, "revision": SHA, "task": "Embedding"}}, id="the task"),
    ],
)
def test_what_touches_pods_makes_another_revision(after: dict[str, Any]) -> None:
    assert find((revision(),), wanted_of(after)) is None
    assert revision(after).hash != revision().hash


def on(*places: dict[str, Any]) -> dict[str, Any]:
    return model_spec(hardware={"candidates": list(places)})


GPU, TWO_GPUS, CPU = {"accelerator": "nvidia-gpu"}, {"accelerator": "nvidia-gpu", "count": 2}, {"accelerator": "cpu"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(on(GPU), on(GPU, CPU), id="a fallback is added"),
        pytest.param(on(GPU), on(CPU, GPU), id="another one is put first"),
        pytest.param(on(GPU), on({**GPU, "count": 1}, CPU), id="the count that is meant anyway is written out"),
    ],
)
def test_what_serves_stays_while_its_candidate_is_listed(before: dict[str, Any], after: dict[str, Any]) -> None:
    stored = revision(before)
    assert find((stored,), wanted_of(after)) == stored


def test_of_siblings_the_newest_is_found_and_one_that_is_not_listed_is_none() -> None:
    first, second = revision(on(GPU), number=1), revision(on(CPU), number=2)
    assert find((first, second), wanted_of(on(GPU, CPU))) == second
    assert find((first, second), wanted_of(on(GPU))) == first
    assert find((first, second), wanted_of(on(TWO_GPUS))) is None
    assert same_but_place(first, second)
    assert not same_but_place(first, revision(model_spec(engine={"args": ["--seed=1"]})))


def test_a_revision_on_one_of_several_candidates_is_that_of_this_one_alone() -> None:
    place = HardwareCandidate(accelerator="cpu")
    assert on_candidate(wanted_of(on(GPU, CPU)), place).to_sparse_json() == wanted_of(on(CPU)).to_sparse_json()


def test_the_order_in_which_candidates_are_tried() -> None:
    wanted = wanted_of(on(GPU, TWO_GPUS, CPU, GPU))
    named = [(place.accelerator, place.count) for place in places(wanted, None, config())]
    assert named == [("nvidia-gpu", 1), ("nvidia-gpu", 2), ("cpu", 1)], "each once"
    current = HardwareCandidate(accelerator="nvidia-gpu", count=2)
    assert [place.count for place in places(wanted, current, config())] == [2, 1, 1]
    assert places(wanted, HardwareCandidate(accelerator="tpu"), config())[0].accelerator == "nvidia-gpu"


def test_how_a_rollout_goes_is_no_part_of_the_identity() -> None:
    rollout = {"allowOutage": True, "placementTimeoutSeconds": 1, "deadlineSeconds": 60}
    assert revision(model_spec(rollout=rollout)).hash == revision().hash


def test_defaults_are_not_stored_so_that_a_newer_operators_defaults_make_no_new_revision() -> None:
    assert wanted_of(model_spec()).to_sparse_json() == {"model": {"uri": HUB_MODEL, "revision": SHA}}
    with_engine = model_spec(engine={"args": ["--seed=1"]}, traffic={"allowFrom": []})
    assert wanted_of(with_engine).to_sparse_json() == {
        "model": {"uri": HUB_MODEL, "revision": SHA},
        "engine": {"args": ["--seed=1"]},
    }


def test_the_time_to_drain_has_one_default() -> None:
    assert RevisionSpec.model_fields["drain_seconds"].default == TrafficSpec().drain_seconds


def test_fields_of_a_newer_operator_are_passed_over() -> None:
    stored = revision()
    inputs = dict(stored.manifest["data"]["inputs"])
    spec = {**inputs["spec"], "speculation": {"draft": "x"}, "model": {**inputs["spec"]["model"], "follow": "Pin"}}
    resolved = {**inputs["resolved"], "attestation": "y"}
    newer = changed(stored, inputs={**inputs, "spec": spec, "resolved": resolved, "seal": 1}, verdict="Good")
    assert newer.spec == stored.spec
    assert newer.resolved == stored.resolved
    assert find((newer,), wanted_of(model_spec())) == newer


def test_a_changed_profile_or_default_of_the_administrator_makes_no_new_revision() -> None:
    stored = revision()
    edited = with_accelerators(config(), "nvidia-gpu", shared_memory="64Gi")
    assert find((stored,), wanted_of(model_spec())) == stored
    assert carried(wanted_of(model_spec()), stored, edited) == stored.resolved
    built, _ = build("ml", "bot", wanted_of(model_spec()), stored.resolved, edited)
    assert built != stored.hash, "the next revision takes the edited profile"


def test_the_same_inputs_have_the_same_hash_and_the_record_holds_the_rendered_pod() -> None:
    first = build("ml", "bot", wanted_of(model_spec()), revision().resolved, config())
    assert first == build("ml", "bot", wanted_of(model_spec()), revision().resolved, config())
    assert first[1].pod_template["metadata"]["labels"]["nightshift.dev/revision"] == first[0]
    assert first[1].inputs.profile == config().accelerators["nvidia-gpu"].to_json()


def test_of_two_equal_revisions_the_newer_is_found() -> None:
    old, new = revision(number=1), revision(number=4, image_digest=OTHER_DIGEST)
    assert find((new, old), wanted_of(model_spec())) == new
    assert newest((old, new)) == new
    assert newest(()) is None


BRANCH = {"model": {"uri": HUB_MODEL, "revision": "v1"}}
NEWER_DEFAULTS = config(
    defaults=config().defaults.model_copy(update={"engine_version": "0.33.0", "engine_image": "registry.example/new"})
)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(
            BRANCH,
            {**BRANCH, "engine": {"args": ["--seed=1"]}},
            ("0.32.0", "registry.example/vllm", DIGEST, SHA),
            id="an argument changes: everything is carried",
        ),
        pytest.param(
            BRANCH,
            {**BRANCH, "engine": {"image": "mirror.example/vllm"}},
            ("0.32.0", "mirror.example/vllm", None, SHA),
            id="the image changes: the version stays as first resolved, the digest is asked for",
        ),
        pytest.param(
            BRANCH,
            {**BRANCH, "engine": {"version": "0.31.0"}},
            ("0.31.0", "registry.example/vllm", None, SHA),
            id="the version changes: the image stays, the digest is asked for",
        ),
        pytest.param(
            BRANCH,
            {**BRANCH, "engine": {"version": "0.32.0"}},
            ("0.32.0", "registry.example/vllm", DIGEST, SHA),
            id="the version that was resolved is written out: its digest stays",
        ),
        pytest.param(
            {**BRANCH, "engine": {"version": "0.31.0"}},
            BRANCH,
            ("0.33.0", "registry.example/vllm", None, SHA),
            id="a version is no longer asked for: today's default",
        ),
        pytest.param(
            BRANCH,
            {"model": {"uri": HUB_MODEL, "revision": "v2"}},
            ("0.32.0", "registry.example/vllm", DIGEST, None),
            id="the model's revision changes: its commit is asked for",
        ),
        pytest.param(
            BRANCH,
            {"model": {"uri": "hf://acme/other", "revision": "v1"}},
            ("0.32.0", "registry.example/vllm", DIGEST, None),
            id="the model changes: its commit is asked for",
        ),
        pytest.param(
            {"model": {"uri": HUB_MODEL}},
            {"model": {"uri": HUB_MODEL, "revision": "main"}},
            ("0.32.0", "registry.example/vllm", DIGEST, SHA),
            id="the default branch is written out: its commit stays",
        ),
        pytest.param(
            BRANCH,
            {"model": {**BRANCH["model"], "tokenSecretRef": {"name": "hub"}}},
            ("0.32.0", "registry.example/vllm", DIGEST, SHA),
            id="a token is added: the commit stays",
        ),
    ],
)
def test_what_is_carried_from_one_revision_to_the_next(
    before: dict[str, Any], after: dict[str, Any], expected: tuple[str | None, ...]
) -> None:
    found = carried(wanted_of(after), revision(before), NEWER_DEFAULTS)
    assert (found.engine_version, found.engine_image, found.image_digest, found.model_revision) == expected


def test_a_digest_that_the_first_pod_ran_is_carried_too() -> None:
    previous = revision(image_digest=None, pinned=OTHER_DIGEST)
    assert previous.digest == OTHER_DIGEST
    assert carried(wanted_of(model_spec(replicas=2)), previous, config()).image_digest == OTHER_DIGEST


def test_the_first_revision_gets_todays_defaults() -> None:
    found = carried(wanted_of(model_spec()), None, NEWER_DEFAULTS)
    assert (found.engine_version, found.engine_image) == ("0.33.0", "registry.example/new")
    assert (found.image_digest, found.model_revision) == (None, None)
    assert (found.accelerator, found.accelerator_count) == ("nvidia-gpu", 1)


def test_the_hardware_that_is_asked_for_is_taken() -> None:
    place = places(
        wanted_of(model_spec(hardware={"candidates": [{"accelerator": "cpu", "count": 2}]})), None, config()
    )[0]
    assert (place.accelerator, place.count) == ("cpu", 2)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"data": None}, id="without data"),
        pytest.param({"data": {"inputs": {}}}, id="with data of another shape"),
        pytest.param({"metadata": {"name": "x", "labels": {}}}, id="without a revision label"),
    ],
)
def test_a_revision_that_cannot_be_read_is_passed_over(broken: dict[str, Any]) -> None:
    assert parse_revision({**revision().manifest, **broken}) is None


def test_a_revision_whose_spec_cannot_be_read_is_passed_over() -> None:
    stored = revision()
    inputs = {**stored.manifest["data"]["inputs"], "spec": {"model": {"uri": "nonsense"}}}
    assert parse_revision({**stored.manifest, "data": {**stored.manifest["data"], "inputs": inputs}}) is None


def test_the_oldest_idle_revisions_beyond_the_limit_are_obsolete() -> None:
    revisions = tuple(
        revision(model_spec(engine={"args": [f"--seed={number}"]}), number=number) for number in range(1, 6)
    )
    in_use = frozenset({revisions[0].hash, revisions[4].hash})
    assert obsolete(revisions, in_use, 2) == (revisions[1],)
    assert obsolete(revisions, in_use, 3) == ()
    assert obsolete(revisions, in_use, 0) == (revisions[3], revisions[2], revisions[1])
