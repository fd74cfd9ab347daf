"""Adapters share a bounded number of slots; bringing one in costs time and never drops one in use."""

import pytest

from igw.simulator.lora import AdapterSlots


def test_loading_costs_once() -> None:
    slots = AdapterSlots(slots=2, load_seconds=0.5)
    assert [slots.use("a", ()), slots.use("a", ())] == [0.5, 0.0]


def test_the_least_recently_used_idle_adapter_makes_room() -> None:
    slots = AdapterSlots(slots=2, load_seconds=0.5)
    for name in ("a", "b", "a"):
        slots.use(name, ())
    slots.use("c", ())
    assert slots.resident == ("a", "c")


def test_an_active_adapter_is_not_dropped() -> None:
    slots = AdapterSlots(slots=2, load_seconds=0.5)
    slots.use("a", ())
    slots.use("b", ("a",))
    slots.use("c", ("a",))
    assert slots.resident == ("a", "c")


def test_fits() -> None:
    slots = AdapterSlots(slots=1, load_seconds=0.0)
    assert slots.fits("a", set())
    assert slots.fits("a", {"a"})
    assert not slots.fits("b", {"a"})


def test_drop() -> None:
    slots = AdapterSlots(slots=1, load_seconds=0.5)
    slots.use("a", ())
    slots.drop("a")
    slots.drop("never loaded")
    assert slots.resident == ()


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        AdapterSlots(slots=-1, load_seconds=0.0)
