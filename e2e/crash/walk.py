"""One telling for each point at which the process may end, several side by side, compared with the undisturbed one."""

import signal
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e.crash.end_state import differences, end_state
from e2e.crash.tales import TALES
from e2e.process.telling import Telling
from e2e.stories.world import OWNED_KINDS
from e2e.support.client import KubectlError
from e2e.support.direct import DirectClient
from nightshift.api import names

SHOWN_LINES = 60
QUIET_SECONDS = 4.0
REST_SECONDS = 180.0


@dataclass(frozen=True)
class Point:
    """A moment at which the process ends."""

    tale: str
    write: str
    """Verb and kind; empty where the process is not killed."""
    when: str = ""
    """before or after; empty where the process is not killed."""

    @property
    def kill(self) -> str:
        """As the process is told it."""
        return f"{self.write} {self.when}".strip()


@dataclass(frozen=True)
class Told:
    """What came of one telling."""

    point: Point
    seconds: float
    writes: tuple[str, ...] = ()
    """All of them, those of the Lease included."""
    end: tuple[str, ...] = ()
    wrong: str = ""
    """Why it came to no good end; empty where it did."""


def points(undisturbed: Mapping[str, Iterable[str]]) -> list[Point]:
    """Before and after every kind of write, each in the first tale that makes it, in its order there.

    Args:
        undisturbed: By tale, the writes that it makes.
    """
    tale_of: dict[str, str] = {}
    for tale, writes in undisturbed.items():
        for write in writes:
            tale_of.setdefault(write, tale)
    return [Point(tale, write, when) for write, tale in tale_of.items() for when in ("before", "after")]


def tell(client: DirectClient, point: Point, name: str, directory: Path) -> Told:
    """Tell a tale once, in a namespace of its own."""
    began = time.monotonic()
    tale = TALES[point.tale]
    try:
        with Telling(client, name, directory, kill=point.kill, hurry=tale.hurry) as telling:
            tale.tell(telling)
            end = at_rest(telling)
            ends, writes = list(telling.operator.ends), telling.operator.writes()
        wrong = _wrong_ends(point, ends)
        return Told(point, time.monotonic() - began, tuple(writes), tuple(end), wrong)
    except (AssertionError, KubectlError) as error:
        log = directory / "operator.log"
        tail = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:] if log.exists() else []
        return Told(point, time.monotonic() - began, wrong="\n".join([str(error), "the operator's log ends:", *tail]))


def at_rest(telling: Telling) -> list[str]:
    """The end state, once the operator wrote nothing and nothing changed for a while."""

    def state() -> list[str]:
        own = telling.client.list(OWNED_KINDS, telling.namespace, names.LABEL_DEPLOYMENT)
        return end_state([*telling.client.list("llmdeployments", telling.namespace), *own], telling.namespace)

    def rests() -> list[str] | None:
        before, writes = state(), telling.writes()
        time.sleep(QUIET_SECONDS)
        return before if (state(), telling.writes()) == (before, writes) else None

    found = telling.eventually("nothing changes any more", rests, REST_SECONDS)
    errors = telling.operator.lines("ERROR")
    assert errors == [], "the operator logged errors:\n" + "\n".join(errors)
    return found


def _wrong_ends(point: Point, ends: list[int]) -> str:
    expected = [-signal.SIGKILL] if point.kill else []
    return "" if ends == expected else f"its processes ended with {ends}, not {expected}"


def tell_all(client: DirectClient, chosen: Iterable[Point], directory: Path, side_by_side: int) -> list[Told]:
    """Tell several, so many of them side by side."""

    def one(numbered: tuple[int, Point]) -> Told:
        number, point = numbered
        name = f"crash-{number}-{point.when or 'never'}"
        return tell(client, point, name, directory / f"{number}-{point.kill or point.tale}".replace(" ", "-"))

    with ThreadPoolExecutor(side_by_side) as pool:
        return list(pool.map(one, enumerate(chosen)))


def complaints(undisturbed: Iterable[Told], crashed: Iterable[Told]) -> list[str]:
    """What is wrong with tellings, each as a paragraph.

    Args:
        undisturbed: One of each tale.
        crashed: Those to be compared with them.
    """
    ends = {told.point.tale: list(told.end) for told in undisturbed}
    found = [f"{told.point.tale}, undisturbed: {told.wrong}" for told in undisturbed if told.wrong]
    for told in crashed:
        lines = differences(ends.get(told.point.tale, []), list(told.end))[:SHOWN_LINES]
        if told.wrong or lines:
            found.append(f"{told.point.tale}, killed {told.point.kill}: " + (told.wrong or "\n".join(["", *lines])))
    return found
