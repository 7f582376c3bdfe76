"""An API server that refuses, loses, delays and forgets: what is wanted comes about all the same, and once."""

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from e2e.process.beside import operators_away
from e2e.process.faults import FAULTS
from e2e.process.patience import impatience, most_at_once, pauses
from e2e.process.proxy import Faults, Request
from e2e.process.telling import TellingBehindProxy
from e2e.stories.world import World
from e2e.support.client import Events
from e2e.support.direct import DirectClient, direct
from nightshift.api import names

RESYNC_SECONDS = 20
"""How soon the operator compares what it knows with lists: that alone heals frames that never come. It is 600 else."""

HEAL_SECONDS = 240.0
REQUESTS_PER_SECOND = 40.0
"""Ten watches that are begun anew each second, a list and a watch each, make half of it."""

ENGINES = f"{names.LABEL_COMPONENT}={names.COMPONENT_ENGINE}"
GROUPS = (
    ("missing rights", "conflicts"),
    ("missing rights to write", "internal errors"),
    ("watches that are too old", "too many requests", "stale lists", "an expired token"),
    ("unavailable", "answers that are lost", "frames that are dropped or late"),
)
"""Faults of one operator, one after the other; the operators run side by side, each behind a proxy of its own."""

FOR_LONG = ("missing rights to write",)
"""Faults during which the operator knows what is to be done, and is refused it for a minute."""


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_what_is_wanted_comes_about_once_in_spite_of_the_api_server(world: World, tmp_path: Path) -> None:
    if not world.client.access.local:
        pytest.skip("the process runs beside the cluster, and the pods of one given by KUBECONFIG are out of its reach")
    assert sorted(itertools.chain(*GROUPS)) == sorted(FAULTS)
    world.given(f"{len(GROUPS)} operators beside the cluster, each behind a proxy, and none in it")
    with operators_away(world.client), direct(world.client) as client, ThreadPoolExecutor(len(GROUPS)) as pool:
        told = [pool.submit(through_all, client, number, tmp_path) for number in range(len(GROUPS))]
        wrong = list(itertools.chain(*(one.result() for one in told)))
    assert wrong == [], "\n".join(wrong)
    world.then(f"all of it came about in spite of {len(FAULTS)} faults, and no pod too many")


def through_all(client: DirectClient, number: int, directory: Path) -> list[str]:
    """One operator through its faults; what was wrong, as sentences."""
    faults, where = GROUPS[number], directory / str(number)
    with TellingBehindProxy(client, f"faults-{number}", where, resyncSeconds=RESYNC_SECONDS) as telling:
        wrong = []
        with telling.client.following("pods", telling.namespace, ENGINES) as events:
            for index, fault in enumerate(faults):
                wrong += [f"{fault}: {text}" for text in through(telling, fault, index)]
            wrong += too_many_pods(events())
        return wrong + ended(telling)


def ended(telling: TellingBehindProxy) -> list[str]:
    """Ends of the process other than by a lost Lease, which a fault may well cost: nobody may lead without it."""
    lost, ends = telling.operator.lines("ERROR"), telling.operator.ends
    lost = [line for line in lost if line.endswith(" stops leading")]
    telling.then(f"the process ended {len(ends)} times, {len(lost)} times for want of its Lease")
    return [] if ends == [1] * len(lost) else [f"the process ended with {ends}, for want of its Lease only {lost}"]


def through(telling: TellingBehindProxy, fault: str, index: int) -> list[str]:
    """A deployment is changed and another made during a fault; both come about after it.

    They are deleted then: the engines of all faults at once would not fit on a small node.
    """
    faults, seconds = FAULTS[fault]
    changed, made = telling.simulated(f"changed-{index}"), telling.simulated(f"made-{index}")
    telling.apply(changed)
    telling.becomes_ready(f"changed-{index}", HEAL_SECONDS)
    changed["spec"]["engine"]["args"] = ["--max-model-len=256"]
    telling.when(f"{fault}, for {seconds:.0f} s; meanwhile one deployment is changed and another made")
    began = telling.proxy.begin(faults())
    telling.apply(changed, made)
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    during = telling.proxy.since(began)
    over = telling.proxy.begin(Faults())
    for name in (f"changed-{index}", f"made-{index}"):
        telling.becomes_ready(name, HEAL_SECONDS)
        telling.eventually(f"{name} has one engine", partial(has_one_engine, telling, name), HEAL_SECONDS)
    telling.then(f"{fault}: healed {time.monotonic() - over:.0f} s after its end")
    telling.client.kubectl(
        "delete", "llmdeployment", f"changed-{index}", f"made-{index}", "-n", telling.namespace, "--wait=false"
    )
    return in_a_hurry(telling, during, over - began, fault)


def has_one_engine(telling: TellingBehindProxy, name: str) -> bool | None:
    return len(telling.engine_pods(name)) == 1 or None


def in_a_hurry(telling: TellingBehindProxy, during: Sequence[Request], seconds: float, fault: str) -> list[str]:
    """Whether the operator asked too often during a fault, or did not leave more and more time between attempts."""
    rate = len(during) / seconds
    telling.then(f"{fault}: {rate:.1f} requests/s meanwhile")
    wrong = [f"{rate:.0f} requests/s"] if rate > REQUESTS_PER_SECOND or not during else []
    if fault in FOR_LONG:
        found = pauses(during)
        for name, waited in found.items():
            telling.then(f"{fault}: {name} was tried again after {', '.join(f'{pause:.1f}' for pause in waited)} s")
        wrong += impatience(found) if found else ["nothing was tried again"]
    return wrong


def too_many_pods(events: Events) -> list[str]:
    """Deployments that had more engines than wanted: one, and one more while it is changed."""
    most = most_at_once(events)
    return [f"{name} had {count} engines" for name, count in most.items() if count > 1 + name.startswith("changed")]
