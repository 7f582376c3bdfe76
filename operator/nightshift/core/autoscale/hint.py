"""What a reconcile should hear of: a demand that would move the number of replicas, not each of its changes."""

from dataclasses import dataclass
from datetime import datetime

from nightshift.core.autoscale.decide import needed
from nightshift.core.autoscale.demand import Demand
from nightshift.core.autoscale.history import peak
from nightshift.core.facts import Known
from nightshift.core.planning import WatchDemand


@dataclass(frozen=True)
class Hint:
    """Equal for two moments between which nothing would follow from the demand. Time alone is the plan's matter."""

    rise: int
    """Replicas that are needed, where they are more than there are."""
    fall: int | None
    """Replicas that would do, where they are fewer; None while that is not known."""
    known: bool
    quiet: bool
    """Whether there is no request, and it is known when the last one came: none need run after a while."""
    woken: bool
    blind: bool


def hint(watch: WatchDemand, demand: Demand, now: datetime) -> Hint:
    """What may follow from the demand."""
    highest, target = peak(demand.history, demand.load, now), watch.bounds.target
    return Hint(
        rise=max(watch.replicas, min(needed(demand.load.at_least, target), watch.bounds.maximum + 1)),
        fall=None if highest is None else min(watch.replicas, max(needed(highest, target), watch.bounds.minimum)),
        known=demand.load.at_most is not None,
        quiet=watch.bounds.minimum == 0 and demand.load.at_most == 0 and isinstance(demand.last_request, Known),
        woken=demand.woken,
        blind=demand.blind,
    )
