"""What a person asks of a rollout, by the annotation `nightshift.dev/order` on the LLMDeployment.

`ORDER WHO AND WHY`: one word that says what is to be done, then free text. A text that was seen already is not carried
out again, whatever came of it; a changed text is a new order.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from nightshift.api import names
from nightshift.api.rollout import Ordering, Phase, RolloutOrder, RolloutState
from nightshift.core.judged.phases import allowed_orders

ANNOTATION = names.ANNOTATION_PERSON
_TEXT, _BY, _REFUSED = 256, 200, 512
_WORDS = ", ".join(order.value for order in RolloutOrder)


@dataclass(frozen=True)
class Order:
    """An order that was not seen yet."""

    text: str
    order: RolloutOrder | None
    """None where it cannot be understood."""
    by: str = ""
    """Who gave it and why, as they wrote it."""

    def seen(self, now: datetime, refused: str = "") -> Ordering:
        """What is remembered of it."""
        return Ordering(text=self.text, order=self.order, by=self.by, at=now, refused=refused[:_REFUSED])


def read_order(text: str | None, last: Ordering | None) -> Order | None:
    """The order that an annotation holds; None where there is none, or it was seen before.

    Worked example: `pause Ada: the demo is at three` is a pause, by `Ada: the demo is at three`.

    Args:
        text: The annotation's value.
        last: The order that was seen last in this deployment.
    """
    written = (text or "").strip()
    if not written or (last is not None and written[:_TEXT] == last.text):
        return None
    word, _, by = written.partition(" ")
    known = word.lower() if word.lower() in set(RolloutOrder) else None
    return Order(written[:_TEXT], RolloutOrder(known) if known else None, by.strip()[:_BY])


def last_seen(states: Iterable[RolloutState]) -> Ordering | None:
    """The order that was seen last, by whichever revision's rollout it was."""
    return max((state.ordered for state in states if state.ordered is not None), key=lambda it: it.at, default=None)


def refusal(order: Order, phase: Phase) -> str:
    """Why an order changes nothing in a phase, with what would; empty where it is carried out.

    Worked example: `resume` while a rollout is judged: `The annotation nightshift.dev/order asks to resume, which
    changes nothing: the rollout is in phase Judging. Orders that do: pause, promote, abort, undo.`
    """
    where = f"The annotation {ANNOTATION}"
    if order.order is None:
        return (
            f"{where} is {order.text[:60]!r}, which is no order. Write one of {_WORDS}, a space, and who asks for it "
            "and why."
        )
    allowed = allowed_orders(phase)
    if order.order in allowed:
        return ""
    rest = f"Orders that do: {', '.join(item.value for item in allowed)}." if allowed else "No order does now."
    return f"{where} asks to {order.order.value}, which changes nothing: the rollout is in phase {phase.value}. {rest}"
