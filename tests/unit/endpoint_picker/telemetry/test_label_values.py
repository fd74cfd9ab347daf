"""A label value is a known name, within a limit for the life of the process; all else is one value."""

from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.telemetry.label_values import OTHER, BoundedNames


def test_known_passes_empty_stays_empty_and_the_rest_folds() -> None:
    names = BoundedNames()
    names.allow(["a"])
    assert [names.fold(name) for name in ("a", "", "b")] == ["a", "", OTHER]


def test_a_name_once_used_keeps_its_place_over_changes() -> None:
    names = BoundedNames(limit=2)
    names.allow(["a", "b"])
    assert [names.fold("a"), names.fold("b")] == ["a", "b"]
    names.allow(["a", "c"])
    assert [names.fold("c"), names.fold("a"), names.fold("b")] == [OTHER, "a", OTHER]


@given(st.lists(st.tuples(st.sets(st.text(max_size=3)), st.text(max_size=3))), st.integers(0, 5))
def test_no_history_brings_more_values_than_the_limit(history: list[tuple[set[str], str]], limit: int) -> None:
    names = BoundedNames(limit=limit)
    seen = set()
    for known, name in history:
        names.allow(known)
        seen.add(names.fold(name))
    assert len(seen - {"", OTHER}) <= limit
