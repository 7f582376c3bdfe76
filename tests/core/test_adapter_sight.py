from datetime import timedelta
from typing import Any

import pytest

from nightshift.api.adapters import AdapterState
from nightshift.api.fetch import FetchReason
from nightshift.core.adapter_sight import (
    BUSY_SECONDS,
    IDLE_SECONDS,
    LAST_PAUSE_SECONDS,
    STARTING_SECONDS,
    TRIES,
    AdapterSight,
    Change,
    NamedAdapter,
    TendAdapters,
    again_seconds,
    changes,
    path_of,
    refused,
    to_fetch,
    worth_telling,
)
from nightshift.core.facts import Fact, Known, Unknown
from tests.support.builders import NOW

OLD, NEW, OTHER = "a" * 40, "b" * 40, "c" * 40
REFUNDS, GREETINGS = NamedAdapter("refunds", "acme/refunds", NEW), NamedAdapter("greetings", "acme/greetings", OTHER)
SILENCE = Unknown("silence")


def tend(*wanted: NamedAdapter, **more: Any) -> TendAdapters:
    return TendAdapters("bot-a", "10.244.0.9", "uid 1", **({"ready": True} | more), wanted=wanted)


def sight(loaded: dict[str, str] | None = None, fetched: tuple[str, ...] = (), **more: Any) -> AdapterSight:
    """An engine with commits loaded by name, and a sidecar that has fetched some."""
    held: Fact[Any] = SILENCE if loaded is None else Known({name: path_of(sha) for name, sha in loaded.items()}, NOW)
    states = Known({sha: AdapterState(sha=sha, phase="Ready") for sha in fetched}, NOW)
    return AdapterSight("uid 1", held, more.pop("states", states), **more)


@pytest.mark.parametrize(
    ("wanted", "seen", "expected"),
    [
        pytest.param(tend(REFUNDS), sight({}, (NEW,)), [("refunds", None, NEW)], id="what is fetched is loaded"),
        pytest.param(tend(REFUNDS), sight({}), [], id="what is not fetched yet is not"),
        pytest.param(tend(REFUNDS), sight({}, states=SILENCE), [], id="nor what no sidecar vouches for"),
        pytest.param(tend(REFUNDS), sight(None, (NEW,)), [], id="nothing while it is not known what is loaded"),
        pytest.param(tend(REFUNDS), sight({"refunds": NEW}, (NEW,)), [], id="what is loaded is left alone"),
        pytest.param(
            tend(REFUNDS),
            sight({"refunds": OLD}, (NEW,)),
            [("refunds", OLD, NEW)],
            id="another version takes the name once it is fetched",
        ),
        pytest.param(tend(REFUNDS), sight({"refunds": OLD}), [], id="until then the old one serves"),
        pytest.param(
            tend(REFUNDS, GREETINGS),
            sight({"stray": OLD}, (NEW, OTHER)),
            [("stray", OLD, None), ("refunds", None, NEW), ("greetings", None, OTHER)],
            id="what nobody asks for goes first",
        ),
        pytest.param(
            tend(untouched=frozenset({"refunds"})),
            sight({"refunds": OLD}),
            [],
            id="a name that is being resolved keeps what it has",
        ),
        pytest.param(
            tend(REFUNDS, GREETINGS, restoring=True),
            sight({"stray": OLD, "refunds": OLD}, (NEW, OTHER)),
            [("greetings", None, OTHER)],
            id="while paused only what is missing is loaded",
        ),
    ],
)
def test_what_is_loaded_and_unloaded(
    wanted: TendAdapters, seen: AdapterSight, expected: list[tuple[str, str | None, str | None]]
) -> None:
    found = [
        (step.name, step.unload, path_of(step.load.sha) if step.load else None) for step in changes(wanted, seen, NOW)
    ]
    assert found == [(name, old and path_of(old), new and path_of(new)) for name, old, new in expected]


@pytest.mark.parametrize(
    ("seen", "keep"),
    [
        pytest.param(sight({"refunds": OLD}), (OLD,), id="what the engine may still read is kept"),
        pytest.param(sight({"refunds": NEW}), (), id="what is wanted anyway is not named twice"),
        pytest.param(sight(None), None, id="everything is kept while that is not known"),
        pytest.param(
            AdapterSight("uid 1", Known({"x": "/etc/passwd", "y": "/adapters/main"}, NOW)),
            (),
            id="paths that are no commits of ours say nothing",
        ),
    ],
)
def test_what_the_sidecar_is_told(seen: AdapterSight, keep: tuple[str, ...] | None) -> None:
    told = to_fetch(tend(REFUNDS, NamedAdapter("alias", "acme/refunds", NEW)), seen)
    assert [(item.repository, item.sha) for item in told.adapters] == [("acme/refunds", NEW)], "each commit once"
    assert told.keep == keep


def test_a_refused_adapter_is_tried_again_later_and_later() -> None:
    seen, now, waits = sight({}, (NEW,)), NOW, []
    for _ in range(TRIES + 2):
        seen = refused(seen, REFUNDS, "no", now)
        assert changes(tend(REFUNDS), seen, now) == ()
        wait = next(s for s in (2, 10, LAST_PAUSE_SECONDS) if changes(tend(REFUNDS), seen, now + timedelta(seconds=s)))
        waits.append(wait)
        now += timedelta(seconds=wait)
    assert waits == [2, 10, 300, 300, 300]
    refusal = seen.refusal("refunds", NEW)
    assert refusal is not None
    assert (refusal.tries, refusal.final) == (TRIES + 2, True)


def test_in_the_place_of_one_that_serves_it_is_not_tried_for_ever() -> None:
    seen = sight({"refunds": OLD}, (NEW,))
    for _ in range(TRIES):
        assert changes(tend(REFUNDS), seen, NOW + timedelta(hours=1))
        seen = refused(seen, REFUNDS, "no", NOW)
    assert changes(tend(REFUNDS), seen, NOW + timedelta(days=1)) == ()


def test_another_version_begins_anew() -> None:
    seen = sight({}, (NEW, OTHER))
    for _ in range(TRIES):
        seen = refused(seen, REFUNDS, "no", NOW)
    another = NamedAdapter("refunds", "acme/refunds", OTHER)
    assert changes(tend(another), seen, NOW) == (Change("refunds", None, another),)
    again = refused(seen, another, "no", NOW).refusal("refunds", OTHER)
    assert again is not None
    assert again.tries == 1


FAILED = Known({NEW: AdapterState(sha=NEW, phase="Failed", reason=FetchReason.ADAPTER_UNUSABLE)}, NOW)


@pytest.mark.parametrize(
    ("wanted", "seen", "seconds"),
    [
        pytest.param(tend(REFUNDS), sight({}), BUSY_SECONDS, id="soon while something is fetched or loaded"),
        pytest.param(tend(REFUNDS), sight({"refunds": NEW}), IDLE_SECONDS, id="seldom once all is loaded"),
        pytest.param(tend(REFUNDS), sight({}, states=FAILED), IDLE_SECONDS, id="seldom where one cannot be had"),
        pytest.param(tend(REFUNDS), sight(None), STARTING_SECONDS, id="now and then where nobody answers"),
        pytest.param(tend(REFUNDS, ready=False), sight({}), STARTING_SECONDS, id="now and then before it serves"),
    ],
)
def test_when_an_engine_is_looked_at_again(wanted: TendAdapters, seen: AdapterSight, seconds: float) -> None:
    assert again_seconds(wanted, seen) == seconds


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param(None, sight({}), True, id="the first look"),
        pytest.param(sight({}), sight({}), False, id="the same again"),
        pytest.param(sight({}), sight({"refunds": NEW}), True, id="one more adapter"),
        pytest.param(sight({}), sight(None), True, id="an engine that fell silent"),
        pytest.param(sight({}), sight({}, (NEW,)), True, id="a fetched commit"),
        pytest.param(sight({}), refused(sight({}), REFUNDS, "no", NOW), True, id="a refusal"),
        pytest.param(
            refused(sight({}), REFUNDS, "no", NOW),
            refused(refused(sight({}), REFUNDS, "no", NOW), REFUNDS, "no", NOW),
            False,
            id="a second refusal, which is not the last",
        ),
    ],
)
def test_what_a_reconcile_should_hear_of(before: AdapterSight | None, after: AdapterSight, told: bool) -> None:
    assert worth_telling(before, after) is told
