"""Which rollouts of all deployments may ask for an accelerator: what every reconcile tells, and what it reads."""

from collections.abc import Callable
from dataclasses import dataclass, field

from nightshift.core.judged.pools import Claim, Contender, Key, turns


@dataclass
class Pools:
    """The rollouts under way, as their last reconcile told of them.

    It is empty in a new process, and each deployment is reconciled once there before long. Until all have told, one
    more may ask for a place than later: the scheduler decides all the same.
    """

    wake: Callable[[Key], None] = lambda key: None
    """Have a deployment looked at: its turn has come."""
    _contenders: dict[Key, Contender] = field(default_factory=dict)

    def tell(self, key: Key, contender: Contender | None) -> None:
        """What a rollout wants now; None where there is none. Those whose turn comes or goes by it are looked at."""
        if contender == self._contenders.get(key):
            return
        before = turns(self._contenders.values(), {})
        if contender is None or contender.claim is Claim.NOTHING:
            self._contenders.pop(key, None)
        else:
            self._contenders[key] = contender
        for other in (turns(self._contenders.values(), {}) ^ before) - {key}:
            self.wake(other)

    def others(self, key: Key) -> tuple[Contender, ...]:
        """What the rollouts of other deployments want."""
        return tuple(one for other, one in self._contenders.items() if other != key)
