"""What holds a new revision back because it cannot fit, and all that does not."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from nightshift.api.config import AcceleratorProfile, OperatorConfig
from nightshift.api.fetch import Failed, FetchReason, Inspected
from nightshift.api.fetch import Resolved as ModelResolved
from nightshift.api.model_facts import ModelFacts, model_facts
from nightshift.api.resource import parse
from nightshift.core import children
from nightshift.core.fit.verdict import DoesNotFit, Memory, assess, share_out
from nightshift.core.observed import JobFacts, Observed
from nightshift.core.preflight import MARGIN, refusal, replica_hardware, replica_settings
from nightshift.core.revisions import build, carried, parse_revision
from nightshift.core.target import Existing, New, Target, Waiting, choose
from tests.core.fit.fit_models import HERE, facts_of
from tests.support.builders import (
    HUB_MODEL,
    NOW,
    OTHER_SHA,
    SHA,
    body,
    config,
    deployment,
    digest_known,
    pod,
    revision,
    wanted_of,
)

GPU = {"resource_name": "nvidia.com/gpu", "tolerations": ({"key": "nvidia.com/gpu"},), "node_selector": {"gpu": "yes"}}
PROFILES = {
    "h100": AcceleratorProfile(**GPU, memory_gib=79.3, compute_capability="9.0"),
    "v100": AcceleratorProfile(**GPU, memory_gib=31.7, compute_capability="7.0"),
    "unknown": AcceleratorProfile(**GPU),
    "sized": AcceleratorProfile(**GPU, memory_gib=79.3),
    "cpu": AcceleratorProfile(),
}
CLAIM = "pvc://models/llama"


def offered() -> OperatorConfig:
    return config(accelerators=PROFILES)


def spec(accelerator: str, count: int = 1, *, uri: str = HUB_MODEL, **parts: Any) -> dict[str, Any]:
    model: dict[str, Any] = {"uri": uri} | ({"revision": SHA} if uri.startswith("hf:") else {})
    quantization = parts.pop("quantization", None)
    return {
        "model": model | ({"quantization": quantization} if quantization else {}),
        "hardware": {"candidates": [{"accelerator": accelerator, "count": count}]},
        "engine": parts,
    }


def refused(facts: ModelFacts, written: Mapping[str, Any]) -> tuple[str, str] | None:
    wanted = wanted_of(written)
    resolved = carried(wanted, None, offered())
    cause = refusal(facts, wanted, resolved, PROFILES[resolved.accelerator])
    assert cause is None or cause.definite
    return (cause.reason, cause.message) if cause else None


@pytest.mark.parametrize(
    ("model", "written", "reason", "says"),
    [
        pytest.param(
            "llama-3.1-70b", spec("h100", 2), "DoesNotFit",
            ["on 2 x h100", "71B in bf16 needs 131 GiB of weights", "2 x 79.3 GiB at 0.92 leaves 6.2 GiB for KV",
             "use fp8, 4 accelerators or --max-model-len=", 'nightshift.dev/fit-check: "off"'],
            id="too little is left for one request",
        ),
        pytest.param(
            "llama-3.1-70b", spec("h100", 1), "DoesNotFit", ["gives 73.0 GiB; use 4 accelerators"],
            id="the weights alone are too large",
        ),
        pytest.param(
            "qwen2.5-7b", spec("h100", 8), "DoesNotFit",
            ["28 attention heads and 4 key-value heads cannot be split over 8 accelerators"],
            id="heads that cannot be split",
        ),
        pytest.param(
            "llama-3.1-8b", spec("h100", args=["--max-model-len=200000"]), "DoesNotFit",
            ["more than the model's 131,072 positions; use --max-model-len=131072"],
            id="a context longer than the model's",
        ),
        pytest.param(
            "llama-3.1-8b", spec("h100", args=["--kv-cache-memory-bytes=100G"]), "DoesNotFit",
            ["engine.args without --kv-cache-memory-bytes"], id="more memory for KV than there is",
        ),
        pytest.param(
            "llama-3.1-8b", spec("h100", quantization="awq"), "QuantizationUnsupported",
            ["model.quantization awq cannot run on h100", "this model is not quantized; fp8"],
            id="a quantization that the files do not have",
        ),
        pytest.param(
            "qwen2.5-72b-awq", spec("h100", 4, quantization="fp8"), "QuantizationUnsupported",
            ["already quantized with awq", "leave model.quantization out"],
            id="a quantization on top of another",
        ),
        pytest.param(
            "llama-3.1-8b", spec("v100", quantization="fp8"), "QuantizationUnsupported",
            ["needs compute capability 7.5, and this accelerator has 7.0"],
            id="a quantization that the accelerator cannot run",
        ),
        pytest.param(
            "llama-3.1-8b", spec("unknown", quantization="gguf"), "QuantizationUnsupported", ["gguf"],
            id="a quantization that the files do not have, on an accelerator that nobody described",
        ),
        pytest.param(
            "llama-3.1-8b-bnb-4bit", spec("h100"), "QuantizationUnsupported",
            ["The model's quantization", "no bitsandbytes any more; use a version before 0.28"],
            id="files that this vLLM does not read any more",
        ),
    ],
)  # fmt: skip
def test_what_is_sure_not_to_run_is_refused(model: str, written: dict[str, Any], reason: str, says: list[str]) -> None:
    found = refused(facts_of(model), written)
    assert found is not None
    assert found[0] == reason
    assert [words for words in says if words not in found[1]] == [], found[1]


@pytest.mark.parametrize(
    ("facts", "written"),
    [
        pytest.param(facts_of("llama-3.1-70b"), spec("h100", 4), id="it fits"),
        pytest.param(facts_of("llama-3.1-70b"), spec("h100", 2, quantization="fp8"), id="it fits in fp8"),
        pytest.param(facts_of("llama-3.1-70b"), spec("unknown", 1), id="the accelerator's memory is not known"),
        pytest.param(facts_of("llama-3.1-70b"), spec("cpu"), id="the processor's memory is not judged"),
        pytest.param(facts_of("llama-3.1-8b"), spec("sized", quantization="fp8"), id="its capability is not known"),
        pytest.param(model_facts({}), spec("h100", quantization="awq"), id="config.json tells nothing"),
        pytest.param(
            model_facts({"model_type": "novel", "hidden_size": 2**20}), spec("h100"), id="a model nobody compared"
        ),
        pytest.param(
            facts_of("llama-3.1-70b"), spec("h100", 1, args=["--cpu-offload-gb=80"]), id="weights kept elsewhere"
        ),
        pytest.param(
            facts_of("llama-3.1-70b"), spec("h100", 2, args=["--max-model-l=8192"]), id="a shortened flag is not read"
        ),
        pytest.param(
            facts_of("llama-3.1-8b"), spec("h100", args=["--max-model-len=lots"]), id="a value for vLLM to refuse"
        ),
        pytest.param(
            facts_of("llama-3.1-8b"),
            spec(
                "h100",
                args=["--max-model-len=200000"],
                env=[{"name": "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "value": "1"}],
            ),
            id="a longer context is asked for by a variable",
        ),
        pytest.param(
            facts_of("llama-3.1-8b"),
            spec("h100", quantization="awq", args=["--hf-overrides={}"]),
            id="the configuration is overridden",
        ),
    ],
)
def test_what_may_run_is_let_through(facts: ModelFacts, written: dict[str, Any]) -> None:
    assert refused(facts, written) is None


STARTS = json.loads((HERE / "published.json").read_text())["starts"]


@pytest.mark.parametrize("start", STARTS, ids=lambda start: f"{start['model']}-{start['version']}-x{start['count']}")
def test_a_start_that_others_published_is_refused_only_where_vllm_refused_it_too(start: dict[str, Any]) -> None:
    """Two of them ended with `max seq len is larger than the maximum number of tokens in KV cache`, or the like."""
    profile = AcceleratorProfile(**GPU, memory_gib=start["memory_gib"], compute_capability="9.0")
    wanted = wanted_of(spec("h100", start["count"], args=start["args"]))
    resolved = carried(wanted, None, offered()).model_copy(update={"engine_version": start["version"]})
    facts = facts_of(start["model"])
    if refusal(facts, wanted, resolved, profile) is not None:
        settings = replica_settings(wanted, resolved, profile)
        memory = share_out(facts, settings, start["version"], replica_hardware(resolved, profile))
        assert isinstance(memory, Memory)
        request = memory.kv.request_blocks(memory.max_model_len) * memory.kv.block_bytes
        assert start["kv_gib"] * 2**30 < request, "vLLM found room for it"


def test_a_refusal_holds_with_three_percent_more_memory() -> None:
    """The longest context that is refused is longer than the first that does not fit by the figures alone."""
    facts = facts_of("llama-3.1-70b")

    def lengths(refuses: Any) -> int:
        return next(length for length in range(8192, 131072, 1024) if refuses(length))

    def asked(length: int) -> dict[str, Any]:
        return spec("h100", 2, args=[f"--max-model-len={length}"])

    def by_figures(length: int) -> bool:
        wanted = wanted_of(asked(length))
        resolved = carried(wanted, None, offered())
        settings = replica_settings(wanted, resolved, PROFILES["h100"])
        verdict = assess(facts, settings, resolved.engine_version, replica_hardware(resolved, PROFILES["h100"]))
        return isinstance(verdict, DoesNotFit)

    room = 79.3 * 0.92 * (MARGIN - 1) * 2**30
    tokens = room / (facts.num_hidden_layers or 0) / (8 // 2 * 2 * 128 * 2)
    assert lengths(lambda length: refused(facts, asked(length))) - lengths(by_figures) == pytest.approx(
        tokens, abs=1024
    )


def chosen(written: dict[str, Any], observed: Observed, **more: Any) -> Target:
    return choose(deployment(written, **more), observed, offered(), NOW)


def waiting(found: Target) -> Waiting:
    assert isinstance(found, Waiting)
    return found


def job_of(written: dict[str, Any], *outcomes: Any, ago: float = 5, **ends: bool) -> Observed:
    """The Job that looks at the model, with a pod for each outcome."""
    asked = waiting(chosen(written, Observed(images=digest_known())))
    name = asked.apply[0].manifest["metadata"]["name"]
    created = (NOW - timedelta(seconds=ago)).isoformat()
    state: dict[str, Any] = {"succeeded": False, "failed": False, "finished_at": None, "annotations": {}} | ends
    return Observed(
        images=digest_known(),
        jobs=(JobFacts(name=name, **state),),
        pods=tuple(pod(None, job=name, outcome=outcome) for outcome in outcomes),
        live={("Job", name): {"metadata": {"uid": "j", "resourceVersion": "1", "creationTimestamp": created}}},
    )


def resolved_with(facts: ModelFacts | None, sha: str = SHA) -> ModelResolved:
    return ModelResolved(sha=sha, files=3, bytes=1000, facts=facts)


LARGE, SMALL = facts_of("llama-3.1-70b"), facts_of("tiny")
DENIED = Failed(reason=FetchReason.MODEL_ACCESS_DENIED, message="acme/tiny is gated. Set model.tokenSecretRef.")


@pytest.mark.parametrize("uri", [HUB_MODEL, CLAIM])
def test_files_are_looked_at_where_that_decides_something(uri: str) -> None:
    found = waiting(chosen(spec("h100", uri=uri), Observed(images=digest_known())))
    assert [item.manifest["kind"] for item in found.apply] == ["Job"]
    assert found.note == f"Reading what {uri} is, to see whether it fits."
    assert found.blocker is None


@pytest.mark.parametrize("uri", [HUB_MODEL, CLAIM])
@pytest.mark.parametrize("accelerator", ["cpu", "unknown"])
def test_nobody_looks_where_nothing_could_be_decided(uri: str, accelerator: str) -> None:
    assert isinstance(chosen(spec(accelerator, uri=uri), Observed(images=digest_known())), New)


def test_a_claim_is_mounted_read_only_where_the_engines_may_run() -> None:
    job = waiting(chosen(spec("h100", uri=CLAIM), Observed(images=digest_known()))).apply[0].manifest
    inside = job["spec"]["template"]["spec"]
    assert inside["containers"][0]["args"] == ["inspect", "--path", "/models/llama"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in inside["containers"][0]["volumeMounts"]
    assert {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}} in inside["volumes"]
    assert (inside["nodeSelector"], inside["tolerations"]) == ({"gpu": "yes"}, [{"key": "nvidia.com/gpu"}])
    assert job["spec"]["activeDeadlineSeconds"] == children.INSPECT_SECONDS


def test_a_pinned_commit_is_looked_at_with_the_token() -> None:
    written = spec("h100")
    written["model"]["tokenSecretRef"] = {"name": "hub"}
    container = (
        waiting(chosen(written, Observed(images=digest_known())))
        .apply[0]
        .manifest["spec"]["template"]["spec"]["containers"][0]
    )
    assert container["args"] == ["resolve", "--uri", HUB_MODEL, "--revision", SHA]
    assert [item["name"] for item in container["env"] if "valueFrom" in item] == ["HF_TOKEN"]


@pytest.mark.parametrize(
    ("uri", "outcome", "facts"),
    [
        pytest.param(HUB_MODEL, resolved_with(SMALL), SMALL, id="the Hub's model is known"),
        pytest.param(CLAIM, Inspected(facts=SMALL), SMALL, id="the claim's model is known"),
        pytest.param(HUB_MODEL, resolved_with(None), None, id="its files tell nothing"),
        pytest.param(CLAIM, Inspected(), None, id="the claim's files tell nothing"),
    ],
)
def test_the_answer_is_stored_with_the_revision(uri: str, outcome: Any, facts: ModelFacts | None) -> None:
    written = spec("h100", uri=uri)
    found = chosen(written, job_of(written, outcome, succeeded=True))
    assert isinstance(found, New)
    assert found.revision.record.facts == facts


def test_what_is_known_of_a_model_is_no_part_of_a_revisions_identity() -> None:
    wanted = wanted_of(spec("h100"))
    resolved = carried(wanted, None, offered()).model_copy(update={"model_revision": SHA})
    (with_facts, known), (without, unknown) = (
        build("ml", "bot", wanted, resolved, offered(), facts) for facts in (SMALL, None)
    )
    assert with_facts == without
    assert (known.facts, unknown.facts) == (SMALL, None)
    assert "facts" not in unknown.to_json(), "what earlier operators stored looks so"


@pytest.mark.parametrize(
    ("uri", "outcome"), [(HUB_MODEL, resolved_with(LARGE)), (CLAIM, Inspected(facts=LARGE))], ids=["hf", "pvc"]
)
def test_what_does_not_fit_waits_for_a_person_and_nothing_is_made(uri: str, outcome: Any) -> None:
    written = spec("h100", uri=uri)
    found = waiting(chosen(written, job_of(written, outcome, succeeded=True)))
    assert found.blocker is not None
    assert (found.blocker.reason, found.blocker.definite) == ("DoesNotFit", True)
    assert (found.apply, found.delete) == ((), ())


def test_an_annotation_lets_it_try_all_the_same() -> None:
    written = spec("h100")
    observed = job_of(written, resolved_with(LARGE), succeeded=True)
    raw = body(written)
    raw["metadata"]["annotations"] = {"nightshift.dev/fit-check": "off"}
    found = choose(parse(raw), observed, offered(), NOW)
    assert isinstance(found, New)
    assert found.revision.record.facts == LARGE, "known all the same"
    assert isinstance(choose(parse(raw), Observed(images=digest_known()), offered(), NOW), New), "and not asked for"


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(job_of(spec("h100"), DENIED), id="the model may not be read"),
        pytest.param(job_of(spec("h100"), failed=True), id="the Job failed without a word"),
        pytest.param(job_of(spec("h100"), succeeded=True), id="its pod is gone"),
        pytest.param(job_of(spec("h100"), ago=children.INSPECT_SECONDS), id="nobody answers for two minutes"),
        pytest.param(job_of(spec("h100"), resolved_with(LARGE, OTHER_SHA), failed=True), id="another commit answers"),
    ],
)
def test_an_answer_that_does_not_come_holds_nothing_back(observed: Observed) -> None:
    found = chosen(spec("h100"), observed)
    assert isinstance(found, New)
    assert found.revision.record.facts is None


def test_an_answer_is_waited_for_and_no_longer_than_two_minutes() -> None:
    found = waiting(chosen(spec("h100"), job_of(spec("h100"), None, ago=20)))
    assert (found.apply, found.requeue_after) == ((), children.INSPECT_SECONDS - 20)


def test_a_branch_is_not_asked_about_twice() -> None:
    branch = spec("h100")
    branch["model"]["revision"] = "main"
    found = chosen(branch, job_of(branch, resolved_with(SMALL, OTHER_SHA), succeeded=True))
    assert isinstance(found, New)
    assert (found.revision.resolved.model_revision, found.revision.record.facts) == (OTHER_SHA, SMALL)


def stored_with(facts: ModelFacts, written: dict[str, Any]) -> Any:
    made = chosen(written, job_of(written, resolved_with(facts), succeeded=True))
    assert isinstance(made, New)
    return made.revision


def test_what_one_revision_knows_the_next_one_of_the_same_commit_knows() -> None:
    first = stored_with(SMALL, spec("h100"))
    found = chosen(spec("h100", args=["--seed=1"]), Observed(images=digest_known(), revisions=(first,)))
    assert isinstance(found, New)
    assert found.revision.record.facts == SMALL


def test_a_claims_files_may_have_changed_and_are_looked_at_anew() -> None:
    written = spec("h100", uri=CLAIM)
    made = chosen(written, job_of(written, Inspected(facts=SMALL), succeeded=True))
    assert isinstance(made, New)
    changed = chosen(
        spec("h100", uri=CLAIM, args=["--seed=1"]), Observed(images=digest_known(), revisions=(made.revision,))
    )
    assert [item.manifest["kind"] for item in waiting(changed).apply] == ["Job"]


def test_a_stored_revision_is_never_judged_again() -> None:
    """Such as one that was made by an earlier operator, or with a profile that said nothing."""
    written = spec("h100")
    stored = revision(written, chosen=offered())
    assert chosen(written, Observed(revisions=(stored,))) == Existing(stored)


def test_facts_that_cannot_be_read_any_more_leave_the_revision_readable() -> None:
    manifest = stored_with(SMALL, spec("h100")).manifest
    manifest["data"]["facts"] = {"numHiddenLayers": "many"}
    read = parse_revision(manifest)
    assert read is not None
    assert read.record.facts is None
