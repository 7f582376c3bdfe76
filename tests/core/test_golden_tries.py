"""Questions that a golden Job did not come to: they are asked again, and nothing passes before."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from nightshift.api.golden_run import GoldenEnd, GoldenKept, GoldenRun, to_line
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.analysis.verdict import Verdict
from nightshift.core.facts import Known
from nightshift.core.golden.jobs import Pairing, kept_of
from nightshift.core.golden.outcome import MOST_TRIES, complete, packed, with_run
from nightshift.core.judged.comparing import Asked, Compared, pairing_of
from tests.core.judged.test_comparing import CANDIDATE as JUDGED
from tests.core.judged.test_comparing import OWNED, READY, SIGHT, SILENT, look
from tests.core.judged.test_comparing import STABLE as BESIDE
from tests.core.test_golden_jobs import CANDIDATE, MAP, STABLE, asked, deleted, name_of, noted, run, seen
from tests.support.builders import NOW
from tests.support.evidence import ALIKE

EMPTY = GoldenKept(stable="r1", source="set")


def four(*pairs: GoldenPair | None) -> GoldenRun:
    """A run of a set of four, some of which were asked."""
    return run(of=4, count=4, pairs=packed(pairs), asked=sum(pair is not None for pair in pairs))


def test_what_one_job_did_not_come_to_is_asked_by_another_of_other_replicas() -> None:
    half = four(GoldenPair("a"), None, GoldenPair("c"), None)
    first = asked(seen(name_of(), told=to_line(half), succeeded=True))
    assert first.plan.notes == ("2 of 4 golden questions were not put to both revisions yet.",)
    candidate = noted(first.note)
    assert not complete(kept_of(Pairing(candidate, STABLE, MAP)))
    second = asked(seen(name_of()), candidate)
    (apply,) = second.plan.apply
    assert deleted(second) == [name_of()]
    arguments = " ".join(apply.manifest["spec"]["template"]["spec"]["containers"][0]["args"])
    assert "--start 0 --count 150 --only 1,3 " in arguments
    assert "--stable 10.0.0.2:8000" in arguments, "the other replica"
    rest = four(None, GoldenPair("b"), None, GoldenPair("d"))
    last = asked(seen(apply.manifest["metadata"]["name"], told=to_line(rest), succeeded=True), candidate)
    assert last.plan.notes == ()
    assert complete(kept_of(Pairing(noted(last.note), STABLE, MAP)))
    assert asked(seen(), noted(last.note)).done


def test_after_a_few_tries_nothing_is_asked_any_more_and_nothing_passes() -> None:
    candidate, jobs = CANDIDATE, set()
    while not (decided := asked(seen(), candidate)).done:
        (apply,) = decided.plan.apply
        name = apply.manifest["metadata"]["name"]
        jobs.add(name)
        told = four(GoldenPair("a"), None, None, None).model_copy(update={"at": NOW + timedelta(minutes=len(jobs))})
        candidate = noted(asked(seen(name, told=to_line(told), succeeded=True), candidate).note)
    assert len(jobs) == MOST_TRIES
    assert not complete(kept_of(Pairing(candidate, STABLE, MAP)))


def test_a_run_that_came_to_nothing_of_what_was_left_is_no_other_run() -> None:
    """The same answer at the same moment is the same run, whoever writes it down."""
    part = four(GoldenPair("a"), None, None, None)
    assert len(with_run(with_run(EMPTY, 0, part), 0, part).runs) == 1


def test_a_pass_waits_for_every_question_and_the_status_says_how_many_are_left() -> None:
    """A set of 150 of which one was answered by both is no set of one."""
    engines = replace(SILENT, pods=(READY,), live=OWNED, engines={READY.name: SIGHT})
    golden = Asked(MAP, idle=True)
    right: dict[str, Any] = ALIKE | {"stable_score": 1.0, "candidate_score": 1.0}
    alike = [GoldenPair(f"q{place}", **right) for place in range(150)]

    def told(count: int) -> Compared:
        some = [*alike[:count], *[None] * (150 - count)]
        part = GoldenRun(
            digest="abcd",
            of=150,
            start=0,
            count=150,
            asked=count,
            at=NOW,
            ended=GoldenEnd.TIME_SPENT,
            pairs=packed(some),
        )
        kept = with_run(kept_of(pairing_of(JUDGED, BESIDE, MAP)), 0, part)
        return look(replace(JUDGED, marks=replace(JUDGED.marks, golden=kept)), engines, 30, asked=golden)

    one, most, all_of_them = (told(count) for count in (1, 149, 150))
    assert isinstance(one.judgement, Known)
    assert one.judgement.value.verdict is Verdict.INCONCLUSIVE
    assert isinstance(most.judgement, Known)
    left = "1 of 150 golden questions were not put to both revisions yet: a Job's time was spent"
    assert (most.judgement.value.verdict, most.judgement.value.says) == (Verdict.INCONCLUSIVE, left)
    assert most.seen is not None
    assert most.seen.besides == (left,)
    assert isinstance(all_of_them.judgement, Known)
    assert all_of_them.judgement.value.verdict is Verdict.PASS, all_of_them.judgement.value.says
    assert all_of_them.seen is not None
    assert all_of_them.seen.besides == ()
