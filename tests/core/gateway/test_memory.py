"""The file in which slots are kept."""

import json

import pytest

from nightshift.core.gateway.memory import read_memory, write_memory
from nightshift.core.gateway.slots import FIRST_KIND, Assignment, Kind, SlotKey, parse_slot, slot_name

KEY = SlotKey("ml/bot", "r1", "refunds")
FULL = Assignment(
    {SlotKey("ml/bot", "r1"): "be_l600_0", KEY: "be_h30_1"},
    {FIRST_KIND: 64, Kind(True, 30): 2},
    {"be_l600_1": SlotKey("ml/bot", "r1")},
)


def test_what_is_written_is_read_again() -> None:
    assert read_memory(write_memory(FULL)) == FULL
    assert read_memory(write_memory(Assignment())) == Assignment()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"slots": 1}', "[" * 100_000])
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_memory(text)


@pytest.mark.parametrize(
    "slot", ["be_l600_0", "be_l600_64", "be_l5_0", "be_activator"], ids=["taken", "outside", "no pool", "no slot"]
)
@pytest.mark.parametrize("part", ["slots", "left"])
def test_entries_that_cannot_be_are_left_out(slot: str, part: str) -> None:
    raw = json.loads(write_memory(FULL))
    raw[part].append({"route": "ml/x", "revision": "r1", "slot": slot})
    assert read_memory(json.dumps(raw)) == FULL


def test_names_of_slots_tell_their_kind() -> None:
    assert parse_slot(slot_name(Kind(True, 30), 7)) == (Kind(True, 30), 7)
    assert parse_slot("be_none") is None
