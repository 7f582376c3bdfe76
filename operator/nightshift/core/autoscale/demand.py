"""What is asked of a deployment, as values: the demand at the moment, and the highest of the last minutes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from nightshift.api.demand import GatewayDemand
from nightshift.core.autoscale.wakes import SeenWake
from nightshift.core.facts import Fact, Unknown


@dataclass(frozen=True)
class Load:
    """Requests of a deployment at one moment: two bounds, since what is seen of it may be a part."""

    at_least: int
    """What was seen. More replicas may follow from it."""
    at_most: int | None
    """None where something is not known. Fewer replicas may follow from this one alone."""
    says: str
    """What it is made of, as the beginning of a sentence."""
    unknown: str = ""
    """Why there is no upper bound, as a sentence."""


@dataclass(frozen=True)
class History:
    """The highest loads of the last minutes. Losing it costs the time of seeing them again, nothing else."""

    since: datetime | None = None
    """Since when the load has been known without a gap."""
    last: datetime | None = None
    """When it was known last."""
    peaks: tuple[tuple[datetime, int], ...] = ()
    """Begins of short spans, oldest first, with the highest upper bound in each."""


@dataclass(frozen=True)
class Demand:
    """Everything that is known of what a deployment is asked."""

    load: Load
    woken: bool = False
    """Whether requests wait, or waited a moment ago, for a deployment without a replica."""
    last_request: Fact[datetime] = field(default_factory=lambda: Unknown("Nobody was asked yet."))
    """When a client last asked for something."""
    typical_start_seconds: float | None = None
    """How long a start takes, as the gateway learned it."""
    history: History = History()
    blind: bool = False
    """Whether the load has not been known for so long that people should hear of it."""


@dataclass(frozen=True)
class GatewaySight:
    """What all gateway pods told last."""

    answers: Mapping[str, Fact[GatewayDemand]] = field(default_factory=dict)
    """By the name of the pod; of every pod that there is."""
    expected: int = 1
    """Pods that there should be."""
    pods_unknown: str = ""
    """Why it is not known which pods there are, as a sentence."""
    wakes: tuple[SeenWake, ...] = ()
    """The wake Leases of the deployment."""
    wakes_unknown: str = ""
    """Why it is not known which there are, as a sentence."""
