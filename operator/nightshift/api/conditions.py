"""Conditions as Kubernetes API conventions want them, and how a list of them changes over time."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from nightshift.api.base import Model, StoredModel

ConditionStatus = Literal["True", "False", "Unknown"]

ORDER = ("Ready", "Available", "Progressing", "Reconciling", "Stalled", "Paused", "AdaptersReady", "ScalingLimited")
"""The order in which conditions are written; kstatus reads them in this order."""


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Timestamp = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str)]
"""A moment in UTC, written to whole seconds as the API server stores it (RFC 3339)."""


class Condition(StoredModel):
    """One aspect of the state, with its cause."""

    type: str = Field(max_length=316, description="Name of the condition.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation that this condition speaks of."
    )
    last_transition_time: Timestamp = Field(description="When the status last changed.")
    reason: str = Field(
        min_length=1, max_length=256, pattern=r"^[A-Za-z][A-Za-z0-9]*$", description="Cause, in CamelCase."
    )
    message: str = Field(max_length=4096, description="What happened, why, and what to do next.")


class Verdict(Model):
    """What a condition should say now: a condition without its history."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


def merge(
    previous: Iterable[Condition], verdicts: Iterable[Verdict], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Turn verdicts into conditions; the transition time moves only when the status changed.

    Args:
        previous: The conditions as they stand in the status.
        verdicts: What they should say now. Conditions that no verdict names are dropped.
        generation: The metadata.generation that was looked at.
        now: The present moment (UTC).
    """
    before = {condition.type: condition for condition in previous}
    merged = []
    for verdict in sorted(verdicts, key=lambda v: (ORDER.index(v.type) if v.type in ORDER else 99, v.type)):
        old = before.get(verdict.type)
        unchanged = old is not None and old.status == verdict.status
        merged.append(
            Condition(
                type=verdict.type,
                status=verdict.status,
                observed_generation=generation,
                last_transition_time=old.last_transition_time if old and unchanged else now,
                reason=verdict.reason,
                message=verdict.message[:4096],
            )
        )
    return tuple(merged)
