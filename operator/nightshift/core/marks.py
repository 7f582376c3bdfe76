"""What is noted on a stored revision while it lives: annotations of its ControllerRevision.

A revision's data never change. What became of it stands beside them, so that a new process decides as the one before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from pydantic import ValidationError

from nightshift.api import names
from nightshift.api.comparison import Comparison
from nightshift.api.golden_run import GoldenKept, parse_kept
from nightshift.api.revision import FailedTry
from nightshift.api.rollout import RolloutState
from nightshift.core.canonical import canonical_json
from nightshift.core.times import moment, written


class Order(Enum):
    """How a revision replaces what serves, where no accelerator is free for one replica more."""

    IN_PLACE = "InPlace"
    """An old replica goes before a new one comes, one at a time."""
    OUTAGE = "Outage"
    """The only one that serves goes first."""


MARKS = frozenset(
    {
        names.ANNOTATION_IMAGE_ID,
        names.ANNOTATION_STARTED,
        names.ANNOTATION_PROVEN,
        names.ANNOTATION_ORDER,
        names.ANNOTATION_VERDICT,
        names.ANNOTATION_ROLLOUT,
        names.ANNOTATION_COMPARISON,
        names.ANNOTATION_GOLDEN,
    }
)
"""The annotations that marks are written to."""


@dataclass(frozen=True)
class Ordered:
    """An order, and since when it holds."""

    order: Order
    since: datetime

    def text(self) -> str:
        """As it is written."""
        return f"{self.order.value} {written(self.since)}"


@dataclass(frozen=True)
class Marks:
    """What became of a revision."""

    digest: str | None = None
    """Digest that its first pod was seen to run, where no registry could be asked."""
    started: datetime | None = None
    """When its present rollout began, where that was after it was stored."""
    proven: datetime | None = None
    """When it first served in full."""
    ordered: Ordered | None = None
    verdict: FailedTry | None = None
    rollout: RolloutState | None = None
    """Where its judged rollout stands, or how it ended."""
    comparison: Comparison | None = None
    """Where the counters stood by which it is compared, and what closed windows came to."""
    golden: GoldenKept | None = None
    """What golden Jobs told of it and of the revision beside it."""

    @property
    def under_way(self) -> bool:
        """Whether it has yet to serve in full since its present rollout began."""
        return self.proven is None or self.started is not None

    @property
    def order(self) -> Order | None:
        """How it replaces what serves; None where the new replica comes before the old one goes."""
        return self.ordered.order if self.ordered else None

    def annotations(self) -> dict[str, str]:
        """The marks as annotations."""
        noted = {
            names.ANNOTATION_IMAGE_ID: self.digest,
            names.ANNOTATION_STARTED: written(self.started),
            names.ANNOTATION_PROVEN: written(self.proven),
            names.ANNOTATION_ORDER: self.ordered.text() if self.ordered else None,
            names.ANNOTATION_VERDICT: self.verdict.model_dump_json(by_alias=True) if self.verdict else None,
            names.ANNOTATION_ROLLOUT: self.rollout.model_dump_json(by_alias=True, exclude_defaults=True)
            if self.rollout
            else None,
            names.ANNOTATION_COMPARISON: self.comparison.text() if self.comparison else None,
            names.ANNOTATION_GOLDEN: canonical_json(self.golden.to_json()) if self.golden else None,
        }
        return {key: value for key, value in noted.items() if value}


def read_marks(annotations: Mapping[str, str]) -> Marks:
    """Marks from annotations; what cannot be read counts as not there."""
    order, _, since = annotations.get(names.ANNOTATION_ORDER, "").partition(" ")
    ordered_at = moment(since)
    known = order in {item.value for item in Order}
    return Marks(
        digest=annotations.get(names.ANNOTATION_IMAGE_ID),
        started=moment(annotations.get(names.ANNOTATION_STARTED)),
        proven=moment(annotations.get(names.ANNOTATION_PROVEN)),
        ordered=Ordered(Order(order), ordered_at) if known and ordered_at is not None else None,
        verdict=_verdict(annotations.get(names.ANNOTATION_VERDICT)),
        rollout=_rollout(annotations.get(names.ANNOTATION_ROLLOUT)),
        comparison=_comparison(annotations.get(names.ANNOTATION_COMPARISON)),
        golden=parse_kept(annotations.get(names.ANNOTATION_GOLDEN)),
    )


def _rollout(text: str | None) -> RolloutState | None:
    try:
        return RolloutState.model_validate_json(text) if text else None
    except ValidationError:
        return None


def _comparison(text: str | None) -> Comparison | None:
    try:
        return Comparison.model_validate_json(text) if text else None
    except ValidationError:
        return None


def _verdict(text: str | None) -> FailedTry | None:
    try:
        return FailedTry.model_validate_json(text) if text else None
    except ValidationError:
        return None
