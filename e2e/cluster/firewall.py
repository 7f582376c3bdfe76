"""The packet filter rules of the cluster: which are ours, how they come and how they go."""

import shutil

from .processes import SYSTEM_PATH, run
from .settings import BRIDGE, NETWORK, POD_SUBNET

COMMENT = "nightshift-cluster"
KUBERNETES_CHAINS = "KUBE-"
FAMILIES = ("iptables", "ip6tables")

_OWN_RULES = (
    ("nat", ["POSTROUTING", "-s", POD_SUBNET, "!", "-d", NETWORK]),
    ("filter", ["FORWARD", "-i", BRIDGE]),
    ("filter", ["FORWARD", "-o", BRIDGE]),
)
_TARGETS = {"nat": "MASQUERADE", "filter": "ACCEPT"}


def add_rules() -> None:
    """Let pods reach out under the node's address, also where the forward policy is DROP."""
    for table, match in _OWN_RULES:
        chain, *rest = match
        rule = [*rest, "-m", "comment", "--comment", COMMENT, "-j", _TARGETS[table]]
        if run(["iptables", "-w", "-t", table, "-C", chain, *rule], check=False).returncode != 0:
            run(["iptables", "-w", "-t", table, "-I", chain, *rule])


def _is_ours(rule: str, kubernetes: bool) -> bool:
    words = rule.split()
    return COMMENT in words or (kubernetes and any(word.startswith(KUBERNETES_CHAINS) for word in words))


def owned(saved: str, *, kubernetes: bool = True) -> list[str]:
    """The chains and rules in an ``iptables-save`` text that belong to a Kubernetes node or to us.

    Args:
        saved: The text.
        kubernetes: Whether chains that any Kubernetes node makes are ours.

    Returns:
        ``TABLE CHAIN`` for a chain and ``TABLE -A CHAIN ...`` for a rule.
    """
    table, found = "", []
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif kubernetes and line.startswith(f":{KUBERNETES_CHAINS}"):
            found.append(f"{table} {line[1:].split()[0]}")
        elif line.startswith("-A ") and _is_ours(line, kubernetes):
            found.append(f"{table} {line}")
    return found


def removal(saved: str, *, kubernetes: bool = True) -> str:
    """The ``iptables-restore --noflush`` text that removes exactly what :func:`owned` finds."""
    entries = [entry.split(" ", 1) for entry in owned(saved, kubernetes=kubernetes)]
    text = []
    for table in dict.fromkeys(table for table, _ in entries):
        mine = [entry for owner, entry in entries if owner == table]
        chains = [entry for entry in mine if not entry.startswith("-A ")]
        rules = [entry for entry in mine if entry.startswith("-A ")]
        deletions = [f"-D {rule[3:]}" for rule in rules if rule.split()[1] not in chains]
        text += [f"*{table}", *deletions, *(f"-F {chain}" for chain in chains), *(f"-X {chain}" for chain in chains)]
        text.append("COMMIT")
    return "\n".join(text) + "\n" if text else ""


def _saved(family: str) -> str:
    if not shutil.which(f"{family}-save", path=SYSTEM_PATH):
        return ""
    done = run([f"{family}-save"], check=False)
    return done.stdout if done.returncode == 0 else ""


def find(*, kubernetes: bool) -> list[str]:
    """Our chains and rules on this machine, each with its family in front."""
    return [f"{family} {entry}" for family in FAMILIES for entry in owned(_saved(family), kubernetes=kubernetes)]


def remove(*, kubernetes: bool) -> None:
    """Remove them."""
    for family in FAMILIES:
        text = removal(_saved(family), kubernetes=kubernetes)
        if text:
            run([f"{family}-restore", "-w", "--noflush"], input_text=text)
