"""Whether an operator was patient with an API server that refused, and made nothing twice."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping

from e2e.process.proxy import Request
from e2e.support.client import Events
from nightshift.api import names

GROWTH = 4.0
"""The longest pause between attempts is at least so many times the shortest: two doublings, of six in a minute."""


def pauses(requests: Iterable[Request]) -> dict[str, list[float]]:
    """Seconds between attempts of the status of each deployment, whose refusal ends an attempt.

    Args:
        requests: What the proxy saw, in order.
    """
    times: dict[str, list[float]] = {}
    for request in requests:
        if request.method == "PATCH" and request.path.endswith("/status"):
            name = request.path.removesuffix("/status").rpartition("/")[2]
            times.setdefault(name, []).append(request.at)
    return {name: [after - before for before, after in itertools.pairwise(found)] for name, found in times.items()}


def impatience(found: Mapping[str, list[float]]) -> list[str]:
    """Who did not wait longer from one attempt to the next.

    Worked example: pauses of 0.5, 1, 2 and 4 s are patient; 1, 1, 1 and 1 s are not, nor is a single attempt.
    """
    return [
        f"{name} was tried again after {', '.join(f'{pause:.1f}' for pause in waited)} s"
        for name, waited in found.items()
        if len(waited) < 3 or max(waited) < GROWTH * min(waited)
    ]


def most_at_once(events: Events) -> Counter[str]:
    """By deployment, the most engine pods that there were at once, those that were leaving left out.

    Args:
        events: What a watch of engine pods told, in order.
    """
    staying: dict[str, str] = {}
    most: Counter[str] = Counter()
    for kind, pod in events:
        metadata = pod["metadata"]
        staying.pop(metadata["name"], None)
        if kind != "DELETED" and "deletionTimestamp" not in metadata:
            staying[metadata["name"]] = metadata["labels"][names.LABEL_DEPLOYMENT]
        most |= Counter(staying.values())
    return most
