"""What golden Jobs tell in a simulated world: made by the product's own packing, of answers that the world has."""

import math
from collections.abc import Callable
from random import Random

from nightshift.adapters.kube import Object
from nightshift.api import names
from nightshift.api.golden_run import GoldenFailed, GoldenOutcome, GoldenReason, GoldenRun
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.canonical import short_hash
from nightshift.core.golden.builtin import builtin_set
from nightshift.core.golden.outcome import packed
from tests.support.api_server import ApiServer
from tests.support.traffic import FIRST_TOKEN_SECONDS, INTER_TOKEN_SECONDS, USUAL, Answers
from tests.support.world import is_ready

USER_QUESTIONS = 40
"""Questions of every golden set that a user has."""


class Questions:
    """Golden Jobs of one world.

    Args:
        server: Where the pods are that are asked.
        answers: How a revision answers. The scatter hangs on the place of a Job among all.
    """

    def __init__(self, server: ApiServer, answers: Callable[[str], Answers] = lambda revision: USUAL) -> None:
        self.answers = answers
        self._server = server
        self._places: dict[str, int] = {}

    def __call__(self, pod: Object) -> GoldenOutcome:
        """What the Job of this pod tells; a failure where one of the engines is not there any more."""
        told = dict(_pairs(pod["spec"]["containers"][0]["args"]))
        revisions = [self._revision(told[f"--{side}"]) for side in ("stable", "candidate")]
        if None in revisions:
            return GoldenFailed(
                reason=GoldenReason.GOLDEN_ENGINE_UNREACHABLE, message="One of the two engines is not there any more."
            )
        chooser = Random(f"questions {self._places.setdefault(told['--seed'], len(self._places))}")
        stable, candidate = (self.answers(str(revision)) for revision in revisions)
        own = "--set" in told
        questions = USER_QUESTIONS if own else len(builtin_set().questions)
        start = int(told["--start"])
        found = [
            _asked(f"q{place + 1}", stable, candidate, chooser, scored=own)
            for place in range(start, min(questions, start + int(told["--count"])))
        ]
        return GoldenRun(
            digest=short_hash([told.get("--source")]) if own else builtin_set().digest,
            of=questions,
            start=start,
            count=len(found),
            asked=len(found),
            at=self._server.clock(),
            pairs=packed(found),
        )

    def _revision(self, address: str) -> str | None:
        """Whose ready engine listens there."""
        ip = address.rpartition(":")[0]
        for raw in self._server.of_kind("Pod"):
            if (raw.get("status") or {}).get("podIP") == ip and is_ready(raw):
                return str(raw["metadata"]["labels"].get(names.LABEL_REVISION))
        return None


def _pairs(arguments: list[str]) -> list[tuple[str, str]]:
    return list(zip(arguments[::2], arguments[1::2], strict=True))


def _asked(question: str, stable: Answers, candidate: Answers, chooser: Random, *, scored: bool) -> GoldenPair:
    """One question, asked of both one after the other: what makes it long or hard is the same for both."""
    hard, length = chooser.random(), math.exp(chooser.gauss(0, 0.5))

    def seconds(usual: float, answers: Answers) -> float:
        return usual * length * answers.slower * math.exp(chooser.gauss(0, 0.1))

    stable_failed, candidate_failed = (chooser.random() < answers.failed for answers in (stable, candidate))
    return GoldenPair(
        question=question,
        stable_score=float(hard >= stable.wrong) if scored and not stable_failed else None,
        candidate_score=float(hard >= candidate.wrong) if scored and not candidate_failed else None,
        stable_failed=stable_failed,
        candidate_failed=candidate_failed,
        stable_first_token=None if stable_failed else seconds(FIRST_TOKEN_SECONDS, stable),
        candidate_first_token=None if candidate_failed else seconds(FIRST_TOKEN_SECONDS, candidate),
        stable_inter_token=None if stable_failed else seconds(INTER_TOKEN_SECONDS, stable),
        candidate_inter_token=None if candidate_failed else seconds(INTER_TOKEN_SECONDS, candidate),
        logprob_distance=None if stable_failed or candidate_failed else max(stable.distance, candidate.distance),
        stable_noise=0.01,
    )
