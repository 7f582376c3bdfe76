"""Which rollouts of all deployments may ask for an accelerator: what every reconcile tells, and what it reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nightshift.core.facts import Fact
from nightshift.core.judged.pools import Claim, Contender, Key, turns


@dataclass
class Pools:
    """The rollouts under way, as their last reconcile told of them.

    It is empty in a new process, and each deployment is reconciled once there before long. Until all have told, one
    more may ask for a place than later: the scheduler decides all the same.
    """

    wake: Callable[[Key], None] = lambda key: None
    """Have a deployment looked at: its turn has come."""
    spare: Mapping[str, Fact[int]] = field(default_factory=dict)
    """Free accelerators by pool, as far as anybody knows."""
    _contenders: dict[Key, Contender] = field(default_factory=dict)

    def tell(self, key: Key, contender: Contender | None) -> None:
        """What a rollout wants now; None where there is none. Those whose turn comes by it are looked at."""
        if contender == self._contenders.get(key):
            return
        before = turns(self._contenders.values(), self.spare)
        if contender is None or contender.claim is Claim.NOTHING:
            self._contenders.pop(key, None)
        else:
            self._contenders[key] = contender
        for other in turns(self._contenders.values(), self.spare) - before - {key}:
            self.wake(other)

    def turn(self, key: Key) -> bool:
        """Whether a rollout may ask for a place; one that has not told of itself may if nobody else asks."""
        if key not in self._contenders:
            return not self._contenders
        return key in turns(self._contenders.values(), self.spare)
