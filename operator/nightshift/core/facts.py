"""Facts about the outside world: each is known at a time, or unknown for a reason.

``Unknown`` is a value: code that reads a fact must say what it does without it, and nothing that
destroys (scaling down, deleting, promoting, rolling back) may follow from it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Known(Generic[T]):
    """A fact, and when it was observed (UTC)."""

    value: T
    at: datetime


@dataclass(frozen=True)
class Unknown:
    """A fact that could not be observed, and why, as a sentence for people."""

    reason: str


Fact: TypeAlias = Known[T] | Unknown


@dataclass(frozen=True)
class ImageNotFound:
    """The registry answered, and has no such image or tag. The message is a sentence with the remedy."""

    message: str
