"""What follows for a plan from what the engines say of themselves."""

from dataclasses import replace
from datetime import datetime

from nightshift.api.resource import LLMDeployment
from nightshift.core import hang
from nightshift.core.observed import Observed
from nightshift.core.planning import Plan


def with_engines(plan: Plan, deployment: LLMDeployment, observed: Observed, now: datetime) -> Plan:
    """The plan, and what is to be watched and asked of the engines.

    Args:
        plan: What was decided without them.
        deployment: The resource.
        observed: What exists, and what the engines told.
        now: The present moment (UTC).
    """
    served = {item.hash: item.spec.model.served_name or deployment.name for item in observed.revisions}
    questions, wait = hang.questions(observed, served, now)
    return replace(
        plan,
        looks=hang.looks(observed),
        requests=(*plan.requests, *questions),
        requeue_after=_sooner(plan.requeue_after, wait),
    )


def _sooner(first: float | None, second: float | None) -> float | None:
    return min((item for item in (first, second) if item is not None), default=None)
