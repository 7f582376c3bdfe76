"""Engines that hang: they make no step, answer nothing, and are healthy to the kubelet.

Measured with vLLM 0.32.0: when the engine's process stands still, /health and /v1/models go on with 200 and every
counter freezes, also the number of running requests: it may say 0 while a request is stuck. So stillness makes an
engine suspect, and only a question for one token that it takes and does not answer, twice, makes it hung.
"""

import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta

from nightshift.core.engine_sight import EngineSight
from nightshift.core.observed import Observed, PodFacts, engine_start
from nightshift.core.planning import AskEngine, LookAtEngine

LOOK_SECONDS = 30.0
"""Between two readings of an engine. 1,000 engines are 33 short requests a second."""

STILL_SECONDS = 60.0
"""An engine with requests that makes no step for so long is asked for a token. Every part of a long prompt is a step
that moves the KV cache's use, so a step takes seconds at most; without chunked prefill a whole prompt is one step."""

QUIET_SECONDS = 600.0
"""An engine without requests, as it says, is asked for a token after so long: one that hung with its first request
after a pause says so too. One that has brought no token at all since its start is asked after STILL_SECONDS, once: a
new version that hangs with the first request it gets is the case that a rollout is there to find."""

ANSWER_SECONDS = 30.0
"""Deadline of a token; a question that waits behind others is excused when anything moved meanwhile."""

QUESTIONS_UNTIL_HUNG = 2

ASK_AGAIN_SECONDS = 5.0
"""From an unanswered question to the next."""


def first_look_seconds(start: str) -> float:
    """When an engine is first looked at: engines are spread over LOOK_SECONDS, also those of a new leader."""
    return zlib.crc32(start.encode()) % 1000 / 1000 * LOOK_SECONDS


def is_suspect(sight: EngineSight) -> bool:
    """Whether an engine stood still for so long that it must be asked for a token.

    Worked example: running 3 at 12:00:00 and the same in every count at 12:01:00 is suspect; at 12:00:59 it is not.
    With nothing running or waiting it is suspect at 12:10:00, or at 12:01:00 if it has never brought a token and no
    question has cleared it. One that was put to sleep never is.
    """
    if sight.last is None or sight.still_since is None or not sight.last.value.awake:
        return False
    limit = STILL_SECONDS if sight.last.value.busy or _is_unproven(sight) else QUIET_SECONDS
    return sight.last.at - sight.still_since >= timedelta(seconds=limit)


def _is_unproven(sight: EngineSight) -> bool:
    """Whether nothing shows that an engine can bring a token: none came since its start, nor at a question."""
    excused = sight.asked_at is not None and not sight.unanswered
    return sight.last is not None and sight.last.value.untouched and not excused


def is_hung(sight: EngineSight) -> bool:
    """Whether an engine stood still, left two questions in a row unanswered, and has not moved after the last.

    Worked example: suspect at 12:01:00, asked until 12:01:30 and again until 12:02:05 without an answer, and the
    same counts at 12:02:05: hung. Had one count moved at 12:02:05, both questions would only have had to wait.
    """
    if not is_suspect(sight) or sight.unanswered < QUESTIONS_UNTIL_HUNG:
        return False
    return sight.last is not None and sight.asked_at is not None and sight.last.at >= sight.asked_at


def question_due(sight: EngineSight) -> datetime | None:
    """From when on a suspect is to be asked for a token; None where there is no question."""
    if not is_suspect(sight) or is_hung(sight) or sight.still_since is None or sight.last is None:
        return None
    if sight.asked_at is None:
        return sight.still_since
    pause = ASK_AGAIN_SECONDS if sight.unanswered else STILL_SECONDS if sight.last.value.busy else QUIET_SECONDS
    return sight.asked_at + timedelta(seconds=pause)


def worth_telling(before: EngineSight | None, after: EngineSight) -> bool:
    """Whether something may follow from what was just seen of an engine."""
    if before is None or before.start != after.start or before.last is None:
        return after.last is not None
    if after.last is None or before.last.value.cache_config != after.last.value.cache_config:
        return True
    return (is_suspect(before), is_hung(before)) != (is_suspect(after), is_hung(after))


def engines(observed: Observed) -> tuple[tuple[PodFacts, str], ...]:
    """Ready engine pods with their starts; only pods that our ReplicaSets made, since anybody can set a label."""
    owners = {raw["metadata"].get("uid") for (kind, _), raw in observed.live.items() if kind == "ReplicaSet"}
    return tuple(
        (pod, start)
        for pod in observed.engine_pods()
        if pod.ready and pod.ip and pod.owner in owners and (start := engine_start(pod)) is not None
    )


def looks(observed: Observed) -> tuple[LookAtEngine, ...]:
    """The engines to be watched."""
    return tuple(LookAtEngine(pod.name, pod.ip or "", start) for pod, start in engines(observed))


def questions(
    observed: Observed, served_names: Mapping[str, str], now: datetime
) -> tuple[tuple[AskEngine, ...], float | None]:
    """Whom to ask for a token now, and in how many seconds the next question is due."""
    asking, waits = [], []
    for pod, start in engines(observed):
        sight = observed.engines.get(pod.name)
        due = question_due(sight) if sight is not None else None
        name = served_names.get(pod.revision or "")
        if due is None or name is None:
            continue
        if due <= now:
            asking.append(AskEngine(pod.name, pod.ip or "", start, name, ANSWER_SECONDS))
        else:
            waits.append((due - now).total_seconds())
    return tuple(asking), min(waits, default=None)


def hung(observed: Observed) -> tuple[PodFacts, ...]:
    """Ready engines that hang, the one that stands still for longest first."""
    found = [
        (sight.still_since, pod.name, pod)
        for pod, _ in engines(observed)
        if (sight := observed.engines.get(pod.name)) is not None and sight.still_since is not None and is_hung(sight)
    ]
    return tuple(pod for _, _, pod in sorted(found, key=lambda item: item[:2]))
