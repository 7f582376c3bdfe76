"""Looking at the machine before anything is changed, and refusing with the remedy."""

import os
import platform

from . import checks, facts
from .settings import ClusterError, Settings
from .tools import go_needed


def demand_root() -> None:
    """Refuse before a directory, a lock or a log is made.

    Raises:
        ClusterError: this is not Linux, or we are not root.
    """
    refusal = checks.account_refusal(platform.system(), os.getuid())
    if refusal:
        raise ClusterError(refusal.problem, refusal.remedy)


def check(settings: Settings, needs: checks.Needs = checks.CLUSTER) -> facts.Facts:
    """Everything in the way at once.

    Raises:
        ClusterError: the machine cannot run it.
    """
    demand_root()
    seen = facts.gather(settings)
    found = checks.refusals(seen, go_needed(), needs)
    if found:
        problems = "; ".join(refusal.problem for refusal in found)
        raise ClusterError(problems, "\n  -> ".join(refusal.remedy for refusal in found))
    return seen
