from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.core.canonical import canonical_json, difference, quantity, short_hash

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", Decimal("0.5")),
        ("1Gi", Decimal(1073741824)),
        ("2", Decimal(2)),
        ("1e3", Decimal(1000)),
        ("1E3", Decimal(1000)),
        ("0.5", Decimal("0.5")),
        ("100k", Decimal(100_000)),
        ("250u", Decimal("0.00025")),
        ("3n", Decimal("3e-9")),
        ("1E", Decimal(10) ** 18),
        ("2Ei", 2 * Decimal(2) ** 60),
        ("-1", Decimal(-1)),
        (4, Decimal(4)),
        (0.5, Decimal("0.5")),
        ("", None),
        ("Gi", None),
        ("1GiB", None),
        ("1ii", None),
        ("http", None),
        ("nan", None),
        ("sNaN", None),
        ("Infinity", None),
        ("1_000", None),
        ("1e+3", Decimal(1000)),
        (".5Gi", Decimal(2) ** 29),
    ],
)
def test_a_quantity_stands_for_a_number(text: str | int | float, number: Decimal | None) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize(
    ("desired", "live", "where"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, None, id="a default that the server added is no difference"),
        pytest.param({"a": 1}, {"a": 2}, ".a", id="another value is found by its path"),
        pytest.param({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 2}]}}, ".a.b[0].c", id="also inside a list"),
        pytest.param({"a": 1}, {}, ".a", id="a missing value is a difference"),
        pytest.param(
            {"selector": {"a": "1"}}, {"selector": {"a": "1", "b": "2"}}, ".selector.b", id="a label more in a selector"
        ),
        pytest.param(
            {"podSelector": {}},
            {"podSelector": {"matchLabels": {"b": "2"}}},
            ".podSelector.matchLabels",
            id="a label where everything is selected",
        ),
        pytest.param({"podSelector": {}}, {"podSelector": {"matchLabels": {}}}, None, id="everything is selected"),
        pytest.param({"a": {}}, {}, None, id="an empty map and none are the same"),
        pytest.param({"a": []}, {}, None, id="an empty list and none are the same"),
        pytest.param({"a": ""}, {}, None, id="an empty text and none are the same"),
        pytest.param({"a": None}, {"a": ""}, None, id="no text and an empty one are the same"),
        pytest.param({"a": None}, {"a": 1}, ".a", id="a value where none is desired is a difference"),
        pytest.param({"a": {"b": 1}}, {"a": None}, ".a", id="a missing map is a difference"),
        pytest.param({"a": {"b": 1}}, {"a": [1]}, ".a", id="a list is no map"),
        pytest.param({"a": [1]}, {"a": {"0": 1}}, ".a", id="a map is no list"),
        pytest.param([{"b": 1}], None, ".", id="a missing list is a difference at the root"),
        pytest.param({"b": 1}, None, ".", id="a missing object is a difference at the root"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, ".a", id="a longer list is a difference"),
        pytest.param({"a": [1, 2]}, {"a": [2, 1]}, ".a[0]", id="the order of a list counts"),
        pytest.param({"a": (1, 2)}, {"a": [1, 2]}, None, id="a tuple is written as a list"),
        pytest.param({"cpu": "1000m"}, {"cpu": "1"}, None, id="a quantity written in another way is the same"),
        pytest.param({"cpu": "1000m"}, {"cpu": "1001m"}, ".cpu", id="another quantity is a difference"),
        pytest.param({"port": 80}, {"port": "80"}, None, id="a number written as text is the same"),
        pytest.param({"a": True}, {"a": "true"}, ".a", id="a truth value is no text"),
        pytest.param({"a": True}, {"a": 1}, ".a", id="a truth value is no number"),
        pytest.param({"a": 1}, {"a": True}, ".a", id="a number is no truth value"),
        pytest.param({"tty": False}, {}, None, id="the server leaves out a false truth value"),
        pytest.param({"initialDelaySeconds": 0}, {}, None, id="the server leaves out a zero"),
        pytest.param({"a": True}, {}, ".a", id="a true truth value is not left out"),
        pytest.param({"a": 3}, {}, ".a", id="a number is not left out"),
        pytest.param(
            {"automountServiceAccountToken": False},
            {},
            ".automountServiceAccountToken",
            id="false is missed where its absence means true",
        ),
        pytest.param("x", "y", ".", id="another value is a difference at the root"),
        pytest.param({"a": "x"}, {"a": "y"}, ".a", id="another text is a difference"),
    ],
)
def test_what_a_live_object_lacks(desired: Any, live: Any, where: str | None) -> None:
    assert difference(desired, live) == where


@given(JSON)
def test_nothing_differs_from_itself(value: Any) -> None:
    assert difference(value, value) is None


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_more_than_desired_is_no_difference(desired: dict[str, Any], more: dict[str, Any]) -> None:
    assert difference(desired, more | desired) is None


def test_the_order_of_keys_makes_no_other_identity() -> None:
    assert canonical_json({"b": 1, "a": [1, "ü"]}) == '{"a":[1,"ü"],"b":1}'
    assert short_hash({"a": 1, "b": 2}) == short_hash({"b": 2, "a": 1})


@given(JSON)
def test_a_hash_fits_in_a_name(value: Any) -> None:
    assert set(short_hash(value)) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert len(short_hash(value)) == 10
    assert len(short_hash(value, 8)) == 8


def test_another_value_has_another_hash() -> None:
    assert short_hash(["a"]) != short_hash(["b"])
