"""The only place that decides: from what is wanted and what was observed to what is done now."""

from dataclasses import replace
from datetime import datetime

from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.core import children
from nightshift.core.adapters import with_adapters
from nightshift.core.adoption import adopted_revisions
from nightshift.core.autoscale.scaling import scale, with_scaling
from nightshift.core.cache_claim import claim_changes, enlargement
from nightshift.core.cause import Cause
from nightshift.core.changed import template_dated
from nightshift.core.course import Course, created, left_over, noted
from nightshift.core.download import Supply, missing_beside, supply
from nightshift.core.exchange import told_while_paused
from nightshift.core.fetch_jobs import superseded
from nightshift.core.golden.jobs import over
from nightshift.core.hung import with_engines
from nightshift.core.objects import changes
from nightshift.core.observed import Observed
from nightshift.core.planning import Apply, Plan, sooner
from nightshift.core.questions import engine_log_requests, event_requests
from nightshift.core.serving import serve, told_of
from nightshift.core.target import New, Waiting, choose
from nightshift.core.traffic import access_objects, rewired, with_traffic


def plan(deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime) -> Plan:
    """Decide what to do for one LLMDeployment.

    Args:
        deployment: The resource, parsed.
        observed: What exists, and what was asked of the outside.
        config: The operator's configuration.
        now: The present moment (UTC).
    """
    if deployment.deleting:
        return Plan()
    scaled = scale(deployment, observed, config, now)
    deployment = scaled.deployment
    base = with_adapters(_decided(deployment, observed, config, now), deployment, observed, config, now)
    scaling = with_scaling(with_engines(base, deployment, observed, now), scaled, observed)
    decided = with_traffic(scaling, deployment, observed, config)
    questions, wait = event_requests(observed, now)
    return replace(decided, requests=(*decided.requests, *questions), requeue_after=sooner(decided.requeue_after, wait))


def _decided(deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime) -> Plan:
    """What to do, besides adapters and what the engines say of themselves."""
    if deployment.spec.paused:
        return _paused(deployment, observed, config, now)
    access = (*adopted_revisions(deployment, observed), *changes(_access(deployment, observed, config), observed))
    target = choose(deployment, observed, config, now)
    larger = enlargement(deployment, observed)
    if isinstance(target, Waiting):
        unwanted = superseded(observed, target.job) if target.job is not None else ()
        claim = claim_changes(deployment, observed)
        left = left_over(deployment, observed, config, now)
        going = serve(deployment, left, observed, now) if left is not None else None
        kept = (*left.apply, *going.apply) if left and going else _kept(deployment, observed, now)
        return Plan(
            apply=(*access, *claim, *target.apply, *kept, *larger),
            delete=(*target.delete, *(going.delete if going else ()), *unwanted, *over(observed).delete),
            requests=target.requests,
            requeue_after=sooner(target.requeue_after, going.requeue_after if going else None),
            notes=(target.note,) if target.note else (),
            blocker=target.blocker,
            counts=going.counts if going else {},
            shares=going.shares if going else None,
            contender=going.contender if going else None,
            compares=going.compares if going else False,
            announcements=left.announcements if left else (),
        )
    supplied = supply(deployment, target.revision, observed, config, now)
    cleared = supplied.there or observed.replica_set(target.revision.hash) is not None
    note = created if isinstance(target, New) else noted
    course = note(deployment, target.revision, observed, config, now, cleared=cleared)
    revision = course.revision
    if revision.marks.verdict is not None:
        supplied = Supply(there=True)
    asked = _questions(course, observed)
    before = (*access, *claim_changes(deployment, observed, supplied.commits), *course.apply)
    fetching, unwanted = supplied.plan, () if isinstance(target, New) else superseded(observed, None)
    if not supplied.there and observed.replica_set(revision.hash) is None:
        return replace(
            fetching,
            apply=(*before, *fetching.apply, *_kept(deployment, observed, now), *larger),
            delete=(*fetching.delete, *unwanted, *asked.delete),
            target=revision,
            announcements=course.announcements,
            **told_of(course),
        )
    served = serve(deployment, course, observed, now)
    return replace(
        served,
        apply=(*before, *fetching.apply, *served.apply, *larger, *asked.apply),
        delete=(*served.delete, *fetching.delete, *unwanted, *asked.delete),
        requests=(*served.requests, *fetching.requests),
        requeue_after=sooner(served.requeue_after, fetching.requeue_after),
        notes=(*served.notes, *fetching.notes),
        blocker=_for_a_person(asked) or served.blocker or missing_beside(supplied, revision, deployment),
    )


def _questions(course: Course, observed: Observed) -> Plan:
    """What is done so that golden questions are asked, or once no rollout needs them."""
    return course.rolling.questions if course.rolling is not None else over(observed)


def _for_a_person(asked: Plan) -> Cause | None:
    """Why golden questions cannot be asked until a person does something; what may pass by itself is tried again."""
    return asked.blocker if asked.blocker is not None and asked.blocker.definite else None


def _paused(deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime) -> Plan:
    target = choose(deployment, observed, config, now)
    revision = None if isinstance(target, Waiting) else target.revision
    return Plan(
        target=revision,
        changed=told_while_paused(deployment, revision, observed) if revision is not None else None,
        requests=engine_log_requests(observed),
        notes=("Paused: nothing is changed until spec.paused is false.",),
        blocker=rewired(deployment, observed, config),
    )


def _kept(deployment: LLMDeployment, observed: Observed, now: datetime) -> tuple[Apply, ...]:
    """While a new revision has to wait, the one that serves still follows spec.replicas and is kept as it was made.

    Between two revisions nothing is moved: which of them goes on is not known before the new one is.
    """
    running = [item for item in observed.replica_sets if item.replicas > 0]
    known = {revision.hash: revision for revision in observed.revisions}
    if len(running) != 1 or running[0].revision not in known:
        return ()
    revision = known[running[0].revision]
    kept = children.replica_set(deployment, revision, deployment.spec.replicas)
    return changes([template_dated(kept, revision, observed, now)], observed)


def _access(deployment: LLMDeployment, observed: Observed, config: OperatorConfig) -> list[children.Manifest]:
    return [
        children.service_account(deployment),
        *access_objects(deployment, observed, config),
        children.disruption_budget(deployment),
    ]
