"""The phases of a judged rollout, and what leads from one to the next: the only place that says so."""

from collections.abc import Mapping
from enum import StrEnum

from nightshift.api.rollout import Phase, RolloutOrder


class Happening(StrEnum):
    """What ends a phase. The value is how people read it."""

    CLEARED = "what has to be known is known, and its turn has come"
    PLACED = "a replica has its node"
    DISPLACED = "no replica has a node any more"
    HELD_UP = "the cluster cannot run it for now"
    ROOM = "there is room for it"
    LOADED = "a replica is ready"
    UNJUDGED = "a replica is ready, and nothing is to be compared"
    STEP_PASSED = "passed, and the step's time is over"
    PASSED = "passed the last step"
    BLIND = "the evidence cannot be read"
    SEEING = "the evidence is back"
    TIMED_OUT = "the deadline has passed without evidence"
    LEFT_OPEN = "inconclusive at the deadline (onInconclusive: Pause)"
    LET_THROUGH = "inconclusive at the deadline (onInconclusive: Promote)"
    SENT_BACK = "inconclusive at the deadline (onInconclusive: Rollback)"
    FAILED = "failed"
    DRAINED = "it has no requests left, or the revision before serves in full"
    COMPLETE = "it serves in full"
    SUPERSEDED = "another revision is asked for"
    PAUSE = "order: pause"
    RESUME = "order: resume"
    PROMOTE = "order: promote"
    ABORT = "order: abort"
    UNDO = "order: undo"
    RETRY = "order: retry"


ORDERED: Mapping[RolloutOrder, Happening] = {
    RolloutOrder.PAUSE: Happening.PAUSE,
    RolloutOrder.RESUME: Happening.RESUME,
    RolloutOrder.PROMOTE: Happening.PROMOTE,
    RolloutOrder.ABORT: Happening.ABORT,
    RolloutOrder.UNDO: Happening.UNDO,
    RolloutOrder.RETRY: Happening.RETRY,
}
"""What follows from an order."""

FIRST = Phase.PREFLIGHT
"""Where a rollout begins."""

TRYING = (Phase.PREFLIGHT, Phase.PLACING, Phase.LOADING, Phase.JUDGING)
"""The candidate is being tried."""

ACTIVE = frozenset({*TRYING, Phase.PROMOTING, Phase.PAUSED})
"""Neither decided nor given up."""

ENDED = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.ABANDONED})

TRANSITIONS: Mapping[tuple[Phase, Happening], Phase] = {
    (Phase.PREFLIGHT, Happening.CLEARED): Phase.PLACING,
    (Phase.PLACING, Happening.PLACED): Phase.LOADING,
    (Phase.LOADING, Happening.DISPLACED): Phase.PLACING,
    (Phase.LOADING, Happening.LOADED): Phase.JUDGING,
    (Phase.LOADING, Happening.UNJUDGED): Phase.PROMOTING,
    (Phase.JUDGING, Happening.UNJUDGED): Phase.PROMOTING,
    (Phase.JUDGING, Happening.STEP_PASSED): Phase.JUDGING,
    (Phase.JUDGING, Happening.PASSED): Phase.PROMOTING,
    (Phase.JUDGING, Happening.BLIND): Phase.PAUSED,
    (Phase.JUDGING, Happening.TIMED_OUT): Phase.PAUSED,
    (Phase.JUDGING, Happening.LEFT_OPEN): Phase.PAUSED,
    (Phase.JUDGING, Happening.LET_THROUGH): Phase.PROMOTING,
    (Phase.JUDGING, Happening.SENT_BACK): Phase.ROLLING_BACK,
    (Phase.PAUSED, Happening.SEEING): Phase.JUDGING,
    (Phase.PAUSED, Happening.HELD_UP): Phase.PAUSED,
    (Phase.PAUSED, Happening.UNJUDGED): Phase.PROMOTING,
    (Phase.PAUSED, Happening.TIMED_OUT): Phase.PAUSED,
    (Phase.PAUSED, Happening.ROOM): Phase.PLACING,
    (Phase.PROMOTING, Happening.COMPLETE): Phase.PROMOTED,
    (Phase.ROLLING_BACK, Happening.DRAINED): Phase.ROLLED_BACK,
    (Phase.ROLLING_BACK, Happening.HELD_UP): Phase.PROMOTED,
    **{(phase, Happening.HELD_UP): Phase.PAUSED for phase in (*TRYING[1:], Phase.PROMOTING)},
    **{(phase, Happening.FAILED): Phase.ROLLING_BACK for phase in sorted(ACTIVE)},
    **{(phase, Happening.SUPERSEDED): Phase.ABANDONED for phase in sorted(ACTIVE)},
    (Phase.ROLLING_BACK, Happening.SUPERSEDED): Phase.ROLLED_BACK,
    **{(phase, Happening.PAUSE): Phase.PAUSED for phase in (*TRYING, Phase.PAUSED)},
    (Phase.PAUSED, Happening.RESUME): Phase.PREFLIGHT,
    **{(phase, Happening.PROMOTE): Phase.PROMOTING for phase in (*TRYING, Phase.PAUSED)},
    **{(phase, Happening.ABORT): Phase.ROLLING_BACK for phase in sorted(ACTIVE)},
    **{(phase, Happening.UNDO): Phase.ROLLING_BACK for phase in (*sorted(ACTIVE), Phase.PROMOTED)},
    (Phase.ROLLED_BACK, Happening.RETRY): Phase.PREFLIGHT,
}
"""From a phase, by what happened, to a phase. What is not listed leads nowhere."""


def follows(phase: Phase, happening: Happening) -> Phase | None:
    """The phase that follows; None where it changes nothing.

    Worked example: Judging, failed: RollingBack. Promoted, failed: None, for what was promoted is judged no more.
    """
    return TRANSITIONS.get((phase, happening))


def allowed_orders(phase: Phase) -> tuple[RolloutOrder, ...]:
    """The orders that change something in a phase."""
    return tuple(order for order, happening in ORDERED.items() if (phase, happening) in TRANSITIONS)


def drawing() -> str:
    """The table as a state diagram in Mermaid's language; what leads the same way shares an arrow."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for happening in Happening:
        for phase in Phase:
            if (after := follows(phase, happening)) is not None:
                arrows.setdefault((phase, after), []).append(happening.value)
    lines = ["stateDiagram-v2", f"  [*] --> {FIRST.value}"]
    order = list(Phase)
    for (before, after), labels in sorted(arrows.items(), key=lambda item: [order.index(end) for end in item[0]]):
        lines.append(f"  {before.value} --> {after.value}: {_label(labels)}")
    lines += [f"  {phase.value} --> [*]" for phase in Phase if phase in ENDED]
    return "\n".join(lines)


def _label(labels: list[str]) -> str:
    """A label without the sign that Mermaid reads as the end of it."""
    return "; ".join(labels).replace(": ", " ").replace("; ", "<br>")
