"""Which Job asks golden questions next, what is kept of it, and what it may do."""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import yaml

from nightshift.api import names
from nightshift.api.evaluation import GoldenSetRef
from nightshift.api.fetch import TERMINATION_MESSAGE_LIMIT
from nightshift.api.golden_run import GoldenFailed, GoldenKept, GoldenReason, GoldenRun, to_line
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.facts import Known, Unknown
from nightshift.core.golden.builtin import builtin_set
from nightshift.core.golden.jobs import (
    Asking,
    Pairing,
    ask,
    golden_of,
    job_name,
    kept_of,
    over,
    rounds_begun,
)
from nightshift.core.golden.outcome import MOST_RUNS, Due, complete, packed
from nightshift.core.marks import read_marks
from nightshift.core.observed import JobFacts, Observed, PodFacts
from nightshift.core.revisions import Revision
from tests.core.test_manifests_golden import GOLDEN, PlainDumper
from tests.support.builders import NOW, config, container, deployment, model_spec, pod, revision
from tests.support.golden import assert_golden

OWNER = deployment()
STABLE = revision(number=1)
OLDER = revision(model_spec(engine={"version": "0.31.0"}), number=1)
CANDIDATE = revision(model_spec(engine={"version": "0.33.0"}), number=2)
MAP = GoldenSetRef(name="golden")
CLAIM = GoldenSetRef(kind="PersistentVolumeClaim", name="sets", key="support/golden.jsonl")


def replica(of: Revision, letter: str, address: str, **changes: Any) -> PodFacts:
    name = f"bot-{of.hash}-{letter}"
    return pod(of.hash, **({"name": name, "uid": name, "ip": address, "phase": "Running", "ready": True} | changes))


REPLICAS = (
    replica(STABLE, "b", "10.0.0.2"),
    replica(STABLE, "a", "10.0.0.1"),
    replica(CANDIDATE, "a", "10.0.0.3"),
)


def name_of(start: int = 0, number: int = 0, reference: GoldenSetRef | None = MAP) -> str:
    return job_name("bot", Pairing(CANDIDATE, STABLE, reference), Due(number, start))


def run(start: int = 0, of: int = 2, count: int = 2, **changes: Any) -> GoldenRun:
    pairs = [GoldenPair(f"q{start + place}", stable_score=1.0, candidate_score=0.0) for place in range(count)]
    values: dict[str, Any] = {"digest": "abcd", "of": of, "start": start, "count": count, "asked": count, "at": NOW}
    return GoldenRun(**(values | {"pairs": packed(pairs)} | changes))


FAILED = GoldenFailed(reason=GoldenReason.GOLDEN_SET_NOT_FOUND, message="There is none; create it.")


def seen(
    *jobs: str, told: str = "", failed: bool = False, succeeded: bool = False, pods: tuple[PodFacts, ...] = REPLICAS
) -> Observed:
    """These Jobs, the first of which has a pod that told something."""
    facts = tuple(
        JobFacts(name, succeeded, failed, "2026-03-01T12:00:00Z", {}, names.COMPONENT_EVALUATION) for name in jobs
    )
    live = {
        ("Job", name): {"metadata": {"name": name, "uid": f"uid-of-{name}", "resourceVersion": "1"}} for name in jobs
    }
    ended = container(names.EVALUATION_CONTAINER, termination_message=told)
    workers = tuple(
        pod(None, name=f"{name}-x", uid=name, component=names.COMPONENT_EVALUATION, job=name, containers=(ended,))
        for name in jobs[:1]
    )
    return Observed(jobs=facts, live=live, pods=(*pods, *workers))


def asked(
    observed: Observed, candidate: Revision = CANDIDATE, reference: GoldenSetRef | None = MAP, **more: Any
) -> Asking:
    now = more.pop("now", NOW)
    pairing = Pairing(candidate, STABLE, reference, more.pop("since", None))
    return ask(OWNER, pairing, observed, config(), now, **more)


def noted(note: GoldenKept | None) -> Revision:
    """The candidate with what was written of it and read again."""
    assert note is not None
    return replace(CANDIDATE, marks=read_marks(replace(CANDIDATE.marks, golden=note).annotations()))


def deleted(asking: Asking) -> list[str]:
    return [item.name for item in asking.plan.delete]


def test_the_first_job_asks_one_ready_replica_of_each_revision() -> None:
    found = asked(seen())
    (apply,) = found.plan.apply
    assert apply.create
    assert apply.manifest["metadata"]["name"] == name_of()
    arguments = " ".join(apply.manifest["spec"]["template"]["spec"]["containers"][0]["args"])
    assert "--stable 10.0.0.1:8000 --stable-model bot --candidate 10.0.0.3:8000 --candidate-model bot" in arguments
    assert "--start 0 --count 150" in arguments
    assert found.note is None
    assert not found.done


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param(REPLICAS[:2], id="the candidate has none"),
        pytest.param(REPLICAS[2:], id="the stable one has none"),
        pytest.param((*REPLICAS[:2], replace(REPLICAS[2], ready=False)), id="the candidate's is not ready"),
        pytest.param((*REPLICAS[:2], replace(REPLICAS[2], ip=None)), id="the candidate's has no address"),
    ],
)
def test_nothing_is_asked_until_both_have_a_ready_replica(pods: tuple[PodFacts, ...]) -> None:
    found = asked(seen(pods=pods))
    assert found.plan.apply == ()
    assert found.plan.notes == ("Golden questions wait until both revisions have a ready replica.",)
    assert not found.done


def test_what_was_told_is_kept_before_its_job_goes_and_the_next_one_comes() -> None:
    told = seen(name_of(), told=to_line(run(of=4)), succeeded=True)
    first = asked(told)
    assert first.note is not None
    assert (first.plan.apply, first.plan.delete) == ((), ())
    after = asked(told, noted(first.note))
    assert deleted(after) == [name_of()]
    (apply,) = after.plan.apply
    assert apply.manifest["metadata"]["name"] == name_of(start=2) != name_of()


def test_once_all_was_asked_the_jobs_go_and_the_pairs_are_there() -> None:
    note = asked(seen(name_of(), told=to_line(run()), succeeded=True)).note
    candidate = noted(note)
    found = asked(seen(name_of()), candidate)
    assert found.done
    assert deleted(found) == [name_of()]
    assert complete(kept_of(Pairing(candidate, STABLE, MAP)))
    fact = golden_of(Pairing(candidate, STABLE, MAP))
    assert isinstance(fact, Known)
    assert [(item.question, item.stable_score, item.candidate_score) for item in fact.value] == [
        ("q0", 1.0, 0.0),
        ("q1", 1.0, 0.0),
    ]


def test_a_further_round_asks_another_replica() -> None:
    note = asked(seen(name_of(), told=to_line(run()), succeeded=True)).note
    found = asked(seen(), noted(note), rounds=2)
    (apply,) = found.plan.apply
    assert apply.manifest["metadata"]["name"] == name_of(number=1) != name_of()
    arguments = apply.manifest["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "10.0.0.2:8000" in arguments, "the other replica of the stable revision"


def test_a_round_counts_as_begun_while_its_job_is_there_and_once_it_told() -> None:
    def begun(candidate: Revision, *jobs: str) -> int:
        return rounds_begun("bot", Pairing(candidate, STABLE, MAP), seen(*jobs))

    once = noted(asked(seen(name_of(), told=to_line(run()), succeeded=True)).note)
    assert (begun(CANDIDATE), begun(CANDIDATE, name_of()), begun(once), begun(once, name_of())) == (1, 1, 1, 1)
    assert begun(once, name_of(number=1)) == 2
    told = seen(name_of(number=1), told=to_line(run()), succeeded=True)
    twice = noted(asked(told, once, rounds=2).note)
    assert begun(twice) == 2
    half = noted(asked(seen(name_of(), told=to_line(run(of=4)), succeeded=True)).note)
    assert begun(half) == 1


def test_until_something_is_told_nothing_is_known() -> None:
    assert golden_of(Pairing(CANDIDATE, STABLE, MAP)) == Unknown("No golden question was asked of both revisions yet.")
    assert not complete(kept_of(Pairing(CANDIDATE, STABLE, MAP)))


@pytest.mark.parametrize(
    ("stable", "reference"),
    [
        pytest.param(OLDER, MAP, id="beside another revision"),
        pytest.param(STABLE, GoldenSetRef(name="other"), id="questions of another set"),
        pytest.param(STABLE, None, id="the built-in questions"),
    ],
)
def test_what_was_kept_says_nothing_of_other_comparisons(stable: Revision, reference: GoldenSetRef | None) -> None:
    candidate = noted(asked(seen(name_of(), told=to_line(run()), succeeded=True)).note)
    assert isinstance(golden_of(Pairing(candidate, stable, reference)), Unknown)


def test_an_annotation_that_cannot_be_read_counts_as_not_there() -> None:
    candidate = replace(CANDIDATE, marks=read_marks({names.ANNOTATION_GOLDEN: "{"}))
    assert isinstance(golden_of(Pairing(candidate, STABLE, MAP)), Unknown)
    assert asked(seen(), candidate).plan.apply != ()


def test_a_job_under_way_is_waited_for() -> None:
    found = asked(seen(name_of()))
    assert (found.plan.apply, found.plan.delete, found.note) == ((), (), None)
    assert found.plan.notes == (f"Job {name_of()} asks golden questions of both revisions.",)


def test_a_job_of_another_comparison_makes_way_even_unfinished() -> None:
    found = asked(seen("bot-golden-old"))
    assert deleted(found) == ["bot-golden-old"]
    assert len(found.plan.apply) == 1


def test_jobs_that_fetch_models_are_left_alone() -> None:
    fetch = JobFacts("bot-resolve-1", False, False, None, {}, names.COMPONENT_RESOLVE)
    observed = replace(seen(), jobs=(fetch,), live={("Job", "bot-resolve-1"): {"metadata": {"uid": "1"}}})
    assert asked(observed).plan.delete == ()
    assert over(observed).delete == ()


def test_after_the_rollout_its_jobs_go() -> None:
    assert [item.name for item in over(seen(name_of())).delete] == [name_of()]


@pytest.mark.parametrize(
    ("told", "reason", "definite"),
    [
        pytest.param(to_line(FAILED), "GoldenSetNotFound", True, id="a person has to create the set"),
        pytest.param(
            to_line(FAILED.model_copy(update={"reason": GoldenReason.GOLDEN_ENGINE_UNREACHABLE})),
            "GoldenEngineUnreachable",
            False,
            id="a replica may come back",
        ),
        pytest.param("", "GoldenJobFailed", False, id="it told nothing"),
        pytest.param("garbage", "GoldenJobFailed", False, id="it told nonsense"),
        pytest.param(to_line(run(start=2, of=4)), "GoldenJobFailed", False, id="it told of other questions"),
    ],
)
def test_a_failed_job_is_told_and_tried_again_after_a_minute(told: str, reason: str, definite: bool) -> None:
    observed = seen(name_of(), told=told, failed=True)
    found = asked(observed)
    assert found.plan.blocker is not None
    assert (found.plan.blocker.reason, found.plan.blocker.definite) == (reason, definite)
    assert (found.note, found.plan.delete, found.done) == (None, (), False)
    assert deleted(asked(observed, now=NOW + timedelta(seconds=61))) == [name_of()]


def test_a_job_that_ended_well_and_told_nothing_is_tried_again() -> None:
    found = asked(seen(name_of(), succeeded=True), now=NOW + timedelta(seconds=61))
    assert deleted(found) == [name_of()]
    assert found.note is None


def test_a_set_that_became_shorter_is_asked_anew() -> None:
    candidate = noted(asked(seen(name_of(), told=to_line(run(of=4)), succeeded=True)).note)
    shorter = FAILED.model_copy(update={"reason": GoldenReason.GOLDEN_SET_CHANGED})
    found = asked(seen(name_of(start=2), told=to_line(shorter), failed=True), candidate)
    assert found.note is not None
    assert found.note.runs == ()
    (apply,) = asked(seen(name_of(start=2)), noted(found.note)).plan.apply
    assert apply.manifest["metadata"]["name"] == name_of()


def test_names_tell_comparisons_apart_and_fit() -> None:
    swapped = job_name("bot", Pairing(STABLE, CANDIDATE, MAP), Due(0, 0))
    later = job_name("bot", Pairing(CANDIDATE, STABLE, MAP, NOW), Due(0, 0))
    found = [name_of(), name_of(150), name_of(number=1), name_of(reference=CLAIM), name_of(reference=None)]
    again = job_name("bot", Pairing(CANDIDATE, STABLE, MAP), Due(0, 0, tries=1, left=(1,)))
    assert len({*found, swapped, later, again}) == 8
    assert len(job_name("b" * names.MAX_NAME_LENGTH, Pairing(CANDIDATE, STABLE, MAP), Due(0, 0))) <= 63


def test_a_further_try_of_the_same_revision_asks_anew() -> None:
    first, second = NOW, NOW + timedelta(hours=1)
    name = job_name("bot", Pairing(CANDIDATE, STABLE, MAP, first), Due(0, 0))
    candidate = noted(asked(seen(name, told=to_line(run()), succeeded=True), since=first).note)
    assert isinstance(golden_of(Pairing(candidate, STABLE, MAP, first)), Known)
    assert isinstance(golden_of(Pairing(candidate, STABLE, MAP, second)), Unknown)
    assert asked(seen(), candidate, since=first).done
    found = asked(seen(name), candidate, since=second)
    assert len(found.plan.apply) == 1
    assert deleted(found) == [name]


def test_answers_of_a_pod_whose_clock_is_late_count_all_the_same() -> None:
    late = run(at=NOW - timedelta(days=1))
    name = job_name("bot", Pairing(CANDIDATE, STABLE, MAP, NOW), Due(0, 0))
    candidate = noted(asked(seen(name, told=to_line(late), succeeded=True), since=NOW).note)
    assert asked(seen(name), candidate, since=NOW).done


def test_the_largest_set_is_asked_by_fourteen_jobs_and_what_is_kept_fits_an_annotation() -> None:
    candidate, jobs = CANDIDATE, 0
    while not (decided := asked(seen(), candidate)).done:
        (apply,) = decided.plan.apply
        name, jobs = apply.manifest["metadata"]["name"], jobs + 1
        arguments = apply.manifest["spec"]["template"]["spec"]["containers"][0]["args"]
        start = int(arguments[arguments.index("--start") + 1])
        told = to_line(run(start, of=2000, count=min(150, 2000 - start)))
        note = asked(seen(name, told=told, succeeded=True), candidate).note
        candidate = noted(note)
    assert jobs == 14
    fact = golden_of(Pairing(candidate, STABLE, MAP))
    assert isinstance(fact, Known)
    assert [pair.question for pair in fact.value] == [f"q{place}" for place in range(2000)]
    assert MOST_RUNS * TERMINATION_MESSAGE_LIMIT < 128 * 1024, "half of what an object's annotations may take"


def test_a_job_whose_claim_is_not_there_says_so_while_it_waits() -> None:
    missing = 'persistentvolumeclaim "sets" not found'
    observed = seen(name_of(reference=CLAIM))
    *others, worker = observed.pods
    waiting = replace(worker, unschedulable=missing, containers=())
    found = asked(replace(observed, pods=(*others, waiting)), reference=CLAIM)
    assert found.plan.blocker is not None
    assert "sets" in found.plan.blocker.message


def test_the_built_in_set_is_named_by_its_content() -> None:
    found = asked(seen(), reference=None)
    (apply,) = found.plan.apply
    assert apply.manifest["metadata"]["annotations"] == {names.ANNOTATION_GOLDEN: f"builtin {builtin_set().digest}"}
    assert "--set" not in apply.manifest["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize(
    ("arguments", "asked_for"),
    [
        pytest.param([], "5", id="nothing is said"),
        pytest.param(["--max-logprobs=2"], "2", id="it gives two"),
        pytest.param(["--max_logprobs", "0"], "0", id="it gives none"),
        pytest.param(["--max-logprobs=-1"], "5", id="it gives all"),
    ],
)
def test_an_engine_is_asked_for_no_more_log_probabilities_than_it_gives(arguments: list[str], asked_for: str) -> None:
    candidate = revision(model_spec(engine={"version": "0.33.0", "args": arguments}), number=2)
    (apply,) = asked(seen(pods=(*REPLICAS[:2], replica(candidate, "a", "10.0.0.3"))), candidate).plan.apply
    given = apply.manifest["spec"]["template"]["spec"]["containers"][0]["args"]
    assert given[given.index("--logprobs") + 1] == asked_for


def test_an_address_of_version_six_stands_in_brackets() -> None:
    pods = (*REPLICAS[:2], replace(REPLICAS[2], ip="fd00::3"))
    (apply,) = asked(seen(pods=pods)).plan.apply
    assert "[fd00::3]:8000" in apply.manifest["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("reference", [MAP, CLAIM], ids=["evaluation_of_a_config_map", "evaluation_of_a_claim"])
def test_the_job_as_it_is_written_out(reference: GoldenSetRef, regenerate: bool) -> None:
    secret = model_spec(engine={"version": "0.33.0"}, podTemplate={"imagePullSecrets": [{"name": "pull"}]})
    candidate = revision(secret, number=2)
    pods = (*REPLICAS[:2], replica(candidate, "a", "10.0.0.3"))
    (apply,) = asked(seen(pods=pods), candidate, reference).plan.apply
    text = yaml.dump(apply.manifest, Dumper=PlainDumper, sort_keys=False, width=120)
    name = f"evaluation_{'job' if reference is MAP else 'job_on_a_claim'}.out.yaml"
    assert_golden(GOLDEN / name, text, regenerate=regenerate)


@pytest.mark.parametrize("luck", range(20))
def test_whatever_goes_wrong_between_steps_every_question_is_told_once_in_the_end(luck: int) -> None:
    """Jobs fail, tell nothing, or are lost; the operator dies before it notes what was told; notes are lost."""
    drawn = random.Random(luck)
    candidate, job, told = CANDIDATE, "", ""
    for step in range(300):
        calm = step > 100
        now = NOW + timedelta(minutes=2 * step)
        observed = seen(*([job] if job else []), told=told, failed=bool(job) and not told)
        decided = asked(observed, candidate, now=now, rounds=2)
        if decided.done:
            break
        if not calm and drawn.random() < 0.3:
            continue  # the process ends before it has written anything
        if decided.note is not None:
            candidate = noted(decided.note)
        if job in deleted(decided) or (not calm and drawn.random() < 0.05):
            job = told = ""
        for apply in decided.plan.apply:
            arguments = apply.manifest["spec"]["template"]["spec"]["containers"][0]["args"]
            start = int(arguments[arguments.index("--start") + 1])
            job = apply.manifest["metadata"]["name"]
            fails = not calm and drawn.random() < 0.3
            told = "" if fails else to_line(run(start, of=400, count=min(150, 400 - start)))
        if not calm and drawn.random() < 0.05:
            candidate = CANDIDATE
    assert decided.done
    fact = golden_of(Pairing(candidate, STABLE, MAP))
    assert isinstance(fact, Known)
    scored = [pair.question for pair in fact.value if pair.stable_score is not None]
    assert scored == [f"q{place}" for place in range(400)]
    assert len(fact.value) == 800
