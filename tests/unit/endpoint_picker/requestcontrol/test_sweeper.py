"""A standstill of the process is not taken for the silence of requests."""

from endpoint_picker.requestcontrol.sweeper import Sweeper


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.swept: list[float] = []
        self.sweeper = Sweeper(
            lambda: self.swept.append(self.now), clock=lambda: self.now, interval_seconds=1.0, report_seconds=10.0
        )

    def tick(self, after: float) -> None:
        self.now += after
        self.sweeper.tick()


def test_it_sweeps_at_every_regular_moment() -> None:
    world = World()
    for after in (1.0, 1.0, 1.9):
        world.tick(after)
    assert world.swept == [101.0, 102.0, 103.9]


def test_after_a_standstill_it_waits_for_the_next_reports() -> None:
    world = World()
    world.tick(1.0)
    world.tick(500.0)
    for _ in range(20):
        world.tick(1.0)
    assert world.swept == [101.0, *(601.0 + n for n in range(12, 21))]


def test_standing_still_again_prolongs_the_wait() -> None:
    world = World()
    world.tick(5.0)
    for _ in range(11):
        world.tick(1.0)
    world.tick(5.0)
    world.tick(1.0)
    assert world.swept == []
