"""How a revision that can be started comes to serve, and the others go: one step at a time."""

from dataclasses import replace
from datetime import datetime
from typing import TypedDict

from nightshift.api import names
from nightshift.api.resource import LLMDeployment
from nightshift.api.rollout import Phase
from nightshift.core import children
from nightshift.core.causes import Cause, revision_cause
from nightshift.core.changed import template_dated
from nightshift.core.course import Course
from nightshift.core.exchange import exchange
from nightshift.core.judged.comparing import is_watched
from nightshift.core.judged.phases import ENDED, TRYING
from nightshift.core.judged.pools import Contender
from nightshift.core.judged.rolling import BACKING, QUIET_SECONDS
from nightshift.core.judged.telling import waits_for_person, where
from nightshift.core.marks import Order
from nightshift.core.objects import changes, deletion
from nightshift.core.observed import Observed
from nightshift.core.placing import Move
from nightshift.core.planning import Delete, Plan, ReadProgress, Request, sooner
from nightshift.core.pod import downloads_in_pod
from nightshift.core.progress import PROGRESS_SECONDS
from nightshift.core.questions import engine_log_requests
from nightshift.core.revisions import Revision, obsolete, same_but_place
from nightshift.core.rollout import RevisionState, replica_counts
from nightshift.core.verdict import deadline, told


def serve(deployment: LLMDeployment, course: Course, observed: Observed, now: datetime) -> Plan:
    """Bring the target up and the others down, one step; or the last good revision, where the target has failed."""
    target, returned = course.revision, _returned(course.revision, observed)
    by_hash = {item.hash: item for item in (*observed.revisions, target)}
    leader, rolling = _leader(course, returned), course.rolling
    counts = dict(rolling.conduct.counts) if rolling is not None else _counts(deployment, leader, course, observed)
    stable = rolling.stable.hash if rolling is not None and rolling.stable is not None else None
    swap = exchange(deployment, leader, counts, observed, now)
    counts |= {leader.hash: swap.replicas} if swap is not None else {}
    sets, deletes, notes = [], [], []
    if rolling is not None:
        counts = dict(sorted(counts.items(), key=lambda item: _grows(item[0], item[1], observed)))
    for hash_, count in counts.items():
        live = observed.replica_set(hash_)
        used = hash_ == leader.hash or (hash_ == stable and target.marks.verdict is None and target.marks.under_way)
        retired = not used and count == 0 and not _has_pods(hash_, observed)
        if retired and live is None:
            continue
        if retired and live is not None and not live.replicas:
            deletes.append(deletion(observed, "ReplicaSet", live.name, "apps/v1", f"Revision {hash_} is retired."))
            continue
        if live is None or live.replicas != count:
            notes.append(f"Revision {hash_}: {live.replicas if live else 0} -> {count} replicas.")
        manifest = children.replica_set(deployment, by_hash[hash_], count)
        sets.append(template_dated(manifest, by_hash[hash_], observed, now))
    if rolling is None or rolling.state.phase in (Phase.PROMOTING, Phase.PROMOTED):
        deletes += _orphans(deployment, target, observed, frozenset(by_hash))
    in_use = frozenset(counts) | {target.hash} | ({stable} if stable is not None else set())
    for old in obsolete(observed.revisions, in_use, deployment.spec.revision_history_limit):
        name = old.manifest["metadata"]["name"]
        reason = f"Revision {old.hash} is older than revisionHistoryLimit keeps."
        deletes.append(deletion(observed, "ControllerRevision", name, "apps/v1", reason))
    requests = (*_progress_requests(target, observed), *engine_log_requests(observed))
    return Plan(
        apply=(*(swap.apply if swap else ()), *changes(sets, observed)),
        delete=(*deletes, *(swap.delete if swap else ())),
        requests=requests,
        requeue_after=sooner(
            _due(deployment, course, observed, now, asking=bool(requests)), swap.due if swap else None
        ),
        notes=tuple(notes),
        target=target,
        blocker=(swap.blocker if swap else None) or _blocker(course, observed, returned),
        changed=swap.says if swap else None,
        counts=counts,
        announcements=course.announcements,
        **told_of(course),
    )


class Told(TypedDict):
    """What a plan tells of a judged rollout."""

    shares: dict[str, int] | None
    rollout: tuple[str, str] | None
    contender: Contender | None
    compares: bool


def told_of(course: Course) -> Told:
    """What a plan tells of a judged rollout: the requests by revision, where it stands, and what it wants."""
    rolling = course.rolling
    if rolling is None:
        return Told(shares=None, rollout=None, contender=None, compares=False)
    ended, part = rolling.state.phase in ENDED, rolling.conduct.shares.get(course.revision.hash, 0)
    return Told(
        shares=dict(rolling.conduct.shares) or {_leader(course, rolling.stable).hash: 100},
        rollout=None if ended else where(rolling.state, rolling.names, rolling.seen, part),
        contender=rolling.contender,
        compares=is_watched(rolling.state),
    )


def _leader(course: Course, returned: Revision | None) -> Revision:
    """The revision that is to serve: the stable one where the candidate does not come up, else the target."""
    rolling = course.rolling
    if rolling is not None:
        back = rolling.state.phase in BACKING or (rolling.state.phase in TRYING and not rolling.conduct.shares)
        return rolling.stable if back and rolling.stable is not None else course.revision
    return returned or course.revision


def _grows(revision: str, count: int, observed: Observed) -> bool:
    """Whether a ReplicaSet grows: those that shrink come first, so that not more is asked for in between."""
    live = observed.replica_set(revision)
    return count > (live.replicas if live is not None else 0)


def _returned(target: Revision, observed: Observed) -> Revision | None:
    """The revision that serves instead of a target that was judged failed; None where it is there no more."""
    verdict = target.marks.verdict
    if verdict is None:
        return None
    return next((item for item in observed.revisions if item.hash == verdict.returned_to), None)


def _blocker(course: Course, observed: Observed, returned: Revision | None) -> Cause | None:
    """What the status tells before anything else: that the target has failed, or what its replicas wait for."""
    verdict, rolling = course.revision.marks.verdict, course.rolling
    if verdict is not None and returned is not None:
        return told(verdict)
    paused = waits_for_person(rolling.state, rolling.names) if rolling is not None else None
    if paused is not None:
        return paused
    short = course.placing.cause
    cause = revision_cause(observed, course.revision.hash)
    return short if short is not None and cause is not None and cause.reason == short.reason else None


def _due(deployment: LLMDeployment, course: Course, observed: Observed, now: datetime, *, asking: bool) -> float | None:
    """Seconds until this is looked at again, where no watch will tell."""
    late = deadline(deployment, course.revision, observed) if course.revision.marks.verdict is None else None
    rolling = course.rolling
    times = [
        rolling.conduct.step.due if rolling is not None else None,
        rolling.due if rolling is not None else None,
        QUIET_SECONDS if rolling is not None and rolling.state.phase is Phase.ROLLING_BACK else None,
        PROGRESS_SECONDS if asking else None,
        course.placing.due,
        max(1.0, (late - now).total_seconds()) if late is not None else None,
    ]
    return min((time for time in times if time is not None), default=None)


def _counts(deployment: LLMDeployment, leader: Revision, course: Course, observed: Observed) -> dict[str, int]:
    """The next step of a rollout, once every ReplicaSet has followed the one before; as it is until then.

    When a spec goes back and forth, pods that are being deleted still look ready for a moment: whoever counts
    on them takes away others that serve.
    """
    target = course.revision
    states = [
        _state(item, observed, gives_way=_gives_way(item, course, leader))
        for item in {**{item.hash: item for item in observed.revisions}, target.hash: target}.values()
        if item.hash != leader.hash and (item.hash == target.hash or observed.replica_set(item.hash) is not None)
    ]
    main = _state(leader, observed)
    if states and not all(item.settled for item in observed.replica_sets):
        existing = [state for state in (main, *states) if observed.replica_set(state.hash) is not None]
        return {state.hash: state.replicas for state in existing}
    owner = observed.replica_set(leader.hash)
    counted = replace(main, ready=min(main.ready, owner.ready if owner else 0))
    return replica_counts(deployment.spec.replicas, counted, states, _missing(deployment, course, leader))


def _gives_way(item: Revision, course: Course, leader: Revision) -> bool:
    """Whether replicas of another revision that do not serve are given up.

    They are where the revision has failed, where it is the same spec on a candidate that was abandoned, and where
    accelerators are short: a replica that does not serve is not worth one that waits for its place.
    """
    target = course.revision
    if item.marks.verdict is not None or target.marks.order is not None or course.placing.move is not Move.GO_ON:
        return True
    return item.hash != target.hash and same_but_place(item, target)


def _missing(deployment: LLMDeployment, course: Course, leader: Revision) -> int:
    """Ready replicas that may be missing: one in place, all in an outage, never the last one in any other case."""
    wanted, order = deployment.spec.replicas, course.revision.marks.order
    if order is Order.OUTAGE and leader.hash == course.revision.hash and deployment.spec.rollout.allow_outage:
        return wanted
    return 1 if order is not None and wanted > 1 else 0


def _orphans(deployment: LLMDeployment, revision: Revision, observed: Observed, known: frozenset[str]) -> list[Delete]:
    """ReplicaSets whose ControllerRevision is gone or cannot be read: they go once the target serves in full."""
    if observed.ready(revision.hash) < deployment.spec.replicas:
        return []
    reason = "What its pods are made of is not known any more, and the present revision serves."
    return [
        deletion(observed, "ReplicaSet", item.name, "apps/v1", f"ReplicaSet {item.name} is retired: {reason}")
        for item in observed.replica_sets
        if item.revision not in known
    ]


def _progress_requests(revision: Revision, observed: Observed) -> tuple[Request, ...]:
    if not downloads_in_pod(revision.spec):
        return ()
    return tuple(
        ReadProgress(pod.name, names.DOWNLOAD_CONTAINER)
        for pod in observed.engine_pods(revision.hash)
        if (item := pod.container(names.DOWNLOAD_CONTAINER)) is not None and item.running_since is not None
    )


def _state(revision: Revision, observed: Observed, *, gives_way: bool = False) -> RevisionState:
    """What runs of a revision; pods beyond what its ReplicaSet asks for are as good as gone."""
    owner, pods = observed.replica_set(revision.hash), observed.engine_pods(revision.hash)
    return RevisionState(
        hash=revision.hash,
        number=revision.number,
        replicas=owner.replicas if owner else 0,
        ready=min(observed.ready(revision.hash), owner.replicas) if owner else 0,
        gives_way=gives_way,
        lost=sum(pod.containers_ready and not pod.ready for pod in pods),
    )


def _has_pods(revision: str, observed: Observed) -> bool:
    return any(pod.revision == revision and not pod.stray for pod in observed.pods)
