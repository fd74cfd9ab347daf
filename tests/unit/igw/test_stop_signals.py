"""The first signal stops, a second forces; the same signal delivered twice is one; work ends when asked to."""

import asyncio

import pytest

from igw.stop_signals import StopSignals, run_until, set_within


async def test_first_stops_and_second_forces(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    signals = StopSignals()
    signals.receive()
    assert signals.stop.is_set()
    now = 100.1
    signals.receive()
    assert not signals.force.is_set()
    now = 101.0
    signals.receive()
    assert signals.force.is_set()


async def test_work_that_ends_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert await run_until(asyncio.Event(), work()) == 7


async def test_work_is_cancelled_when_asked_to_stop() -> None:
    stop = asyncio.Event()
    cleaned = []

    async def work() -> int:
        try:
            stop.set()
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)
        return 7

    assert await run_until(stop, work()) is None
    assert cleaned == [True]


async def test_an_error_comes_out_as_it_was_raised() -> None:
    async def work() -> None:
        msg = "no"
        raise KeyError(msg)

    with pytest.raises(KeyError, match="no"):
        await run_until(asyncio.Event(), work())


async def test_set_within() -> None:
    event = asyncio.Event()
    assert not await set_within(event, 0.0)
    event.set()
    assert await set_within(event, 10.0)
