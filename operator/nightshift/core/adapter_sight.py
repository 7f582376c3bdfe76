"""Which adapters one engine holds, what its sidecar has fetched, and what is to be loaded and unloaded next."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from nightshift.api.adapters import MAX_IN_POD, AdapterState, WantedAdapter, WantedAdapters
from nightshift.core.facts import Fact, Known, Unknown

DIRECTORY = "/adapters"
"""Where sidecar and engine find the adapters, one directory per commit: an engine may keep what it computed for a
path, so every version has a path of its own."""

TRIES = 3
"""Refusals of an engine after which an adapter counts as failed."""

_PAUSES = (2.0, 10.0)
"""Seconds from the first and from the second refusal to the next try."""

LAST_PAUSE_SECONDS = 300.0
"""From every further refusal to the next try."""

IDLE_SECONDS = 30.0
"""Between two looks at an engine that holds what it should: somebody may have unloaded it."""

BUSY_SECONDS = 1.0
"""Between two looks while something is being fetched or loaded."""

STARTING_SECONDS = 5.0
"""Between two looks at an engine that does not serve yet."""

NEVER_ASKED = Unknown("It was not asked yet.")


def path_of(sha: str) -> str:
    """The directory of a commit."""
    return f"{DIRECTORY}/{sha}"


@dataclass(frozen=True)
class NamedAdapter:
    """A commit that is to be served under a name."""

    name: str
    repository: str
    sha: str


@dataclass(frozen=True)
class TendAdapters:
    """What an engine should hold, from now on and until a plan says otherwise."""

    pod: str
    ip: str
    start: str
    """Which start of the engine, as `core.observed.engine_start` names it: what it holds is lost with it."""
    ready: bool
    """Whether the pod is ready, so that its engine must answer."""
    wanted: tuple[NamedAdapter, ...]
    untouched: frozenset[str] = frozenset()
    """Names of which it is not known yet what they should be: what is loaded under them stays."""
    restoring: bool = False
    """Only what is missing is loaded, and nothing is unloaded."""


@dataclass(frozen=True)
class Refusal:
    """An engine did not take an adapter."""

    sha: str
    tries: int
    message: str
    at: datetime

    @property
    def final(self) -> bool:
        """Whether it was tried often enough to say that it fails."""
        return self.tries >= TRIES


@dataclass(frozen=True)
class AdapterSight:
    """What is known of one start of one engine. Losing it costs the time of asking again, nothing else."""

    start: str
    loaded: Fact[Mapping[str, str]] = NEVER_ASKED
    """Paths of loaded adapters by name."""
    states: Fact[Mapping[str, AdapterState]] = NEVER_ASKED
    """What the sidecar says of each commit."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """By name."""

    def holds(self, name: str, sha: str) -> bool:
        """Whether the engine serves this commit under the name."""
        return isinstance(self.loaded, Known) and self.loaded.value.get(name) == path_of(sha)

    def state(self, sha: str) -> AdapterState | None:
        """What the sidecar says of a commit; None where nothing is known."""
        return self.states.value.get(sha) if isinstance(self.states, Known) else None

    def refusal(self, name: str, sha: str) -> Refusal | None:
        """What the engine last said against this commit under the name."""
        found = self.refusals.get(name)
        return found if found is not None and found.sha == sha else None


@dataclass(frozen=True)
class AdapterAnswer:
    """What an engine answered to being told to load or unload an adapter."""

    taken: bool
    message: str = ""
    """Why not, in its own words."""


@dataclass(frozen=True)
class Change:
    """One step: unload what stands under the name, then load another, or one of both."""

    name: str
    unload: str | None
    """The path that is loaded now."""
    load: NamedAdapter | None


def to_fetch(tend: TendAdapters, sight: AdapterSight) -> WantedAdapters:
    """What the sidecar is told to hold. What the engine may still read stays; where that is not known, everything."""
    wanted = {item.sha: WantedAdapter(repository=item.repository, sha=item.sha) for item in tend.wanted}
    keep = None
    if isinstance(sight.loaded, Known):
        loaded = (path.removeprefix(f"{DIRECTORY}/") for path in sight.loaded.value.values())
        keep = tuple(dict.fromkeys(sha for sha in loaded if sha not in wanted and _is_commit(sha)))[:MAX_IN_POD]
    return WantedAdapters(adapters=tuple(wanted.values()), keep=keep)


def _is_commit(text: str) -> bool:
    return len(text) == 40 and all(letter in "0123456789abcdef" for letter in text)


def changes(tend: TendAdapters, sight: AdapterSight, now: datetime) -> tuple[Change, ...]:
    """What to unload and load now; nothing where it is not known what is loaded.

    A name gets another commit only once that is fetched and found fit, so it goes unserved for a moment at most.
    """
    if not isinstance(sight.loaded, Known):
        return ()
    loaded, wanted = sight.loaded.value, {item.name: item for item in tend.wanted}
    found = []
    if not tend.restoring:
        gone = [name for name in loaded if name not in wanted and name not in tend.untouched]
        found += [Change(name, loaded[name], None) for name in sorted(gone)]
    for item in tend.wanted:
        state, there = sight.state(item.sha), loaded.get(item.name)
        if there == path_of(item.sha) or state is None or state.phase != "Ready":
            continue
        if there is not None and tend.restoring:
            continue
        if _may_be_tried(sight.refusal(item.name, item.sha), now, swapping=there is not None):
            found.append(Change(item.name, there, item))
    return tuple(found)


def _may_be_tried(refusal: Refusal | None, now: datetime, *, swapping: bool) -> bool:
    """Whether an adapter may be loaded now. In the place of one that serves it is not tried for ever.

    Worked example: refused at 12:00:00, 12:00:02 and 12:00:12, it is tried again at 12:05:12; never, where an
    older version serves under its name, which each try interrupts.
    """
    if refusal is None:
        return True
    if swapping and refusal.final:
        return False
    pause = _PAUSES[refusal.tries - 1] if refusal.tries <= len(_PAUSES) else LAST_PAUSE_SECONDS
    return now >= refusal.at + timedelta(seconds=pause)


def refused(sight: AdapterSight, item: NamedAdapter, message: str, now: datetime) -> AdapterSight:
    """What is known after an engine did not take an adapter."""
    before = sight.refusal(item.name, item.sha)
    entry = Refusal(item.sha, before.tries + 1 if before else 1, message, now)
    return replace(sight, refusals={**sight.refusals, item.name: entry})


def is_failing(sight: AdapterSight, item: NamedAdapter) -> bool:
    """Whether sidecar or engine said of an adapter that it cannot be had, and only time or people change that."""
    state, refusal = sight.state(item.sha), sight.refusal(item.name, item.sha)
    return (state is not None and state.phase == "Failed") or (refusal is not None and refusal.final)


def again_seconds(tend: TendAdapters, sight: AdapterSight) -> float:
    """When to look at an engine again."""
    if not tend.ready or isinstance(sight.loaded, Unknown):
        return STARTING_SECONDS
    waits = any(not sight.holds(item.name, item.sha) and not is_failing(sight, item) for item in tend.wanted)
    return BUSY_SECONDS if waits else IDLE_SECONDS


def worth_telling(before: AdapterSight | None, after: AdapterSight) -> bool:
    """Whether something may follow from what was just seen."""
    if before is None or before.start != after.start:
        return True
    said = (_plain(before.loaded), _plain(before.states), {n: (r.sha, r.final) for n, r in before.refusals.items()})
    says = (_plain(after.loaded), _plain(after.states), {n: (r.sha, r.final) for n, r in after.refusals.items()})
    return said != says


def _plain(fact: Fact[Mapping[str, str]] | Fact[Mapping[str, AdapterState]]) -> object:
    return dict(fact.value) if isinstance(fact, Known) else None
