"""The supervisor: a child is ready or says why not, is restarted with back-off, and nothing of it is left behind."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from igw.backoff import Backoff
from igw.child import ChildFailed, ChildSpec
from igw.liveness import Liveness
from igw.supervisor import Supervisor

SWIFT = Backoff(first_seconds=0.05, longest_after_ready_seconds=0.05, longest_seconds=0.2, jitter=0.0)
MARK = "open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')"
SERVE = f"import os, sys, time; {MARK}; time.sleep(60)"
DEAF = f"import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {MARK}; time.sleep(60)"
CRASH = f"import os, sys, time; {MARK}; print('out of memory', file=sys.stderr); sys.exit(7)"
PARENT = f"""
import os, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1] + ".grandchild", "w").write(str(grandchild.pid))
{MARK}
time.sleep(60)
"""


class Bench:
    """A supervisor with fast back-off, what it reported, and the folder its children leave marks in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports: list[str] = []
        self.force = asyncio.Event()
        self.supervisor = Supervisor(report=self.reports.append, force=self.force, backoff=SWIFT)

    def pids(self, name: str = "child") -> list[int]:
        mark = self.folder / name
        return [int(line) for line in mark.read_text().split()] if mark.exists() else []

    def spec(self, code: str, *, name: str = "child", ready_after: int = 1, **options: object) -> ChildSpec:
        async def is_ready() -> str:
            return "" if len(self.pids(name)) >= ready_after and alive(self.pids(name)[-1]) else "no mark yet"

        command = (sys.executable, "-c", textwrap.dedent(code), str(self.folder / name))
        return ChildSpec(name=name, command=command, is_ready=is_ready, **options)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def alive(pid: int) -> bool:
    """Whether *pid* runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


async def test_leaving_the_block_ends_the_child_and_reports_nothing(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        child = await supervisor.start(bench.spec(SERVE))
        assert child.ready
        (pid,) = bench.pids()
        assert alive(pid)
    assert not alive(pid)
    assert bench.reports == []


async def test_a_child_that_ends_before_it_is_ready_fails_with_its_last_words(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        with pytest.raises(ChildFailed) as caught:
            await supervisor.start(bench.spec(CRASH, ready_after=2))
    assert str(caught.value).splitlines() == ["child ended with exit code 7 before it was ready", "  out of memory"]
    assert caught.value.child_exit_code == 7
    assert len(bench.pids()) == 1


async def test_a_child_that_takes_too_long_fails_and_is_ended(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        with pytest.raises(ChildFailed, match=r"not ready within 1 s: no mark yet") as caught:
            await supervisor.start(bench.spec(SERVE, ready_after=2, ready_timeout_seconds=1.0))
        assert caught.value.child_exit_code is None
        assert not alive(bench.pids()[0])


async def test_a_program_that_does_not_exist_fails_in_one_line(bench: Bench) -> None:
    async def never() -> str:
        return "nothing"

    async with bench.supervisor as supervisor:
        with pytest.raises(ChildFailed, match="cannot run /nowhere/envoy: No such file or directory"):
            await supervisor.start(ChildSpec("envoy", ("/nowhere/envoy",), never))


async def test_a_child_that_dies_is_started_again(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        child = await supervisor.start(bench.spec(SERVE))
        os.kill(bench.pids()[0], signal.SIGKILL)
        await eventually(lambda: len(bench.pids()) == 2 and child.ready and child.restarts == 1)
        first, second = bench.pids()
        assert not alive(first)
        assert alive(second)
    assert bench.reports == ["child ended with signal SIGKILL; starting it again in 0.1 s", "child is ready again"]
    assert not alive(second)


async def test_a_child_that_keeps_dying_is_started_less_and_less_often(bench: Bench) -> None:
    code = f"import os, sys, time; os.path.exists(sys.argv[1]) and sys.exit(1); {MARK}; time.sleep(60)"
    async with bench.supervisor as supervisor:
        await supervisor.start(bench.spec(code))
        os.kill(bench.pids()[0], signal.SIGKILL)
        await eventually(lambda: sum("again in" in line for line in bench.reports) >= 4)
    delays = [float(line.rpartition(" in ")[2].removesuffix(" s")) for line in bench.reports if "again in" in line]
    assert delays[:4] == [0.1, 0.1, 0.2, 0.2]


def stopped(pid: int) -> bool:
    """Whether *pid* was stopped by a signal, and so answers nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


async def test_a_child_that_hangs_is_killed_and_started_again(bench: Bench) -> None:
    async def answers() -> bool:
        return not stopped(bench.pids()[-1])

    liveness = Liveness(answers, interval_seconds=0.02, timeout_seconds=1.0, misses=2)
    async with bench.supervisor as supervisor:
        child = await supervisor.start(bench.spec(SERVE, liveness=liveness))
        hung = bench.pids()[0]
        os.kill(hung, signal.SIGSTOP)
        await eventually(lambda: child.restarts == 1 and child.ready)
        assert not alive(hung)
    assert re.fullmatch(r"child did not answer for \d s and was killed; starting it again in 0\.1 s", bench.reports[0])


WAIT = f"""
import os, sys, time
open(sys.argv[1] + ".spare", "a").write(f"{{os.getpid()}}\\n")
sys.stdin.readline() or sys.exit()
{MARK}
time.sleep(60)
"""


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("igw.spare._LOOK_SECONDS", 0.01)


@pytest.mark.usefixtures("hasty")
async def test_a_spare_takes_the_place_of_a_child_that_died(bench: Bench) -> None:
    spec = bench.spec(SERVE)
    async with bench.supervisor as supervisor:
        child = await supervisor.start(replace(spec, spare_command=(*spec.command[:2], WAIT, *spec.command[3:])))
        for number in (1, 2):
            await eventually(lambda number=number: len(bench.pids("child.spare")) == number)
            os.kill(bench.pids()[-1], signal.SIGKILL)
            await eventually(lambda number=number: child.restarts == number and child.ready)
            assert bench.pids()[-1] == bench.pids("child.spare")[-1]
        await eventually(lambda: len(bench.pids("child.spare")) == 3)
    assert not any(map(alive, bench.pids() + bench.pids("child.spare")))


@pytest.mark.usefixtures("hasty")
async def test_without_its_spare_a_child_is_started_anew(bench: Bench) -> None:
    spec = bench.spec(SERVE)
    async with bench.supervisor as supervisor:
        child = await supervisor.start(replace(spec, spare_command=(*spec.command[:2], WAIT, *spec.command[3:])))
        await eventually(lambda: len(bench.pids("child.spare")) == 1)
        os.kill(bench.pids("child.spare")[0], signal.SIGKILL)
        os.kill(bench.pids()[0], signal.SIGKILL)
        await eventually(lambda: child.restarts >= 1 and child.ready)
        await eventually(lambda: len(bench.pids("child.spare")) == 2)
        assert bench.pids()[-1] not in bench.pids("child.spare")


async def test_a_stand_in_works_from_a_death_until_the_child_is_ready_again(bench: Bench) -> None:
    worked: list[str] = []

    @contextlib.asynccontextmanager
    async def stand_in() -> AsyncIterator[None]:
        worked.append("begins")
        yield
        worked.append(f"ends beside {len(bench.pids())}")

    async with bench.supervisor as supervisor:
        child = await supervisor.start(bench.spec(SERVE, stand_in=stand_in))
        assert worked == []
        os.kill(bench.pids()[0], signal.SIGKILL)
        await eventually(lambda: child.restarts == 1 and child.ready)
        await eventually(lambda: worked == ["begins", "ends beside 2"])
        supervisor._backoff = Backoff(first_seconds=60.0, longest_after_ready_seconds=60.0, longest_seconds=60.0)
        os.kill(bench.pids()[1], signal.SIGKILL)
        await eventually(lambda: len(worked) == 3)
    assert worked[2:] == ["begins", "ends beside 2"]


async def test_a_child_that_answers_at_last_is_left_alone(bench: Bench) -> None:
    asked = 0

    async def answers() -> bool:
        nonlocal asked
        asked += 1
        if asked % 3 == 0:
            return True
        await asyncio.sleep(60)
        return True

    liveness = Liveness(answers, interval_seconds=0.01, timeout_seconds=0.02, misses=3)
    async with bench.supervisor as supervisor:
        child = await supervisor.start(bench.spec(SERVE, liveness=liveness))
        await eventually(lambda: asked >= 9)
        assert child.restarts == 0
    assert bench.reports == []


async def test_a_child_is_not_to_blame_while_nobody_gets_a_turn(bench: Bench) -> None:
    asked = 0

    async def answers() -> bool:
        nonlocal asked
        asked += 1
        time.sleep(0.3)  # noqa: ASYNC251 - stands for a machine that was suspended meanwhile
        return False

    liveness = Liveness(answers, interval_seconds=0.01, timeout_seconds=0.1, misses=1, starved_seconds=0.1)
    async with bench.supervisor as supervisor:
        child = await supervisor.start(bench.spec(SERVE, liveness=liveness))
        await eventually(lambda: asked >= 3)
        assert child.restarts == 0
    assert bench.reports == []


async def test_a_child_that_ignores_sigterm_is_killed(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        await supervisor.start(bench.spec(DEAF, stop_timeout_seconds=0.2))
    assert not alive(bench.pids()[0])
    assert bench.reports == ["child did not end in time and is killed"]


async def test_a_child_with_nothing_to_finish_is_killed_without_a_word(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        await supervisor.start(bench.spec(DEAF, stop_timeout_seconds=0.0))
    assert not alive(bench.pids()[0])
    assert bench.reports == []


async def test_one_started_in_place_of_another_takes_its_turn(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        first = await supervisor.start(bench.spec(SERVE, name="first", restart=False))
        second = await supervisor.start(bench.spec(SERVE, name="second"))
        await supervisor.kill(first)
        again = await supervisor.start(first.spec, in_place_of=first)
        assert again.place < second.place


async def test_force_does_not_wait(bench: Bench) -> None:
    async def endless() -> None:
        await asyncio.sleep(3600)

    async with bench.supervisor as supervisor:
        await supervisor.start(bench.spec(DEAF, stop_timeout_seconds=60.0, before_stop=endless))
        asyncio.get_running_loop().call_later(0.2, bench.force.set)
        began = time.monotonic()
    assert time.monotonic() - began < 5.0
    assert not alive(bench.pids()[0])


async def test_what_the_child_started_ends_with_it(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        await supervisor.start(bench.spec(PARENT))
        grandchild = int((bench.folder / "child.grandchild").read_text())
        assert alive(grandchild)
        os.kill(bench.pids()[0], signal.SIGKILL)
        await eventually(lambda: not alive(grandchild))
        await eventually(lambda: len(bench.pids()) == 2)
        grandchild = int((bench.folder / "child.grandchild").read_text())
    await eventually(lambda: not alive(grandchild))


async def test_children_stop_in_reverse_order_after_their_farewell(bench: Bench) -> None:
    ended: list[str] = []

    def farewell(name: str) -> Callable[[], Awaitable[None]]:
        async def note() -> None:
            ended.append(f"{name}: {[alive(bench.pids(each)[0]) for each in ('first', 'second')]}")

        return note

    async with bench.supervisor as supervisor:
        await supervisor.start(bench.spec(SERVE, name="first", before_stop=farewell("first")))
        await supervisor.start(bench.spec(SERVE, name="second", before_stop=farewell("second")))
    assert ended == ["second: [True, True]", "first: [True, False]"]


async def test_a_killed_child_stays_dead_until_it_is_started_anew(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        spec = bench.spec(SERVE, restart=False)
        child = await supervisor.start(spec)
        await supervisor.kill(child)
        assert not alive(bench.pids()[0])
        await supervisor.start(spec)
        assert alive(bench.pids()[1])
    assert bench.reports == []


async def test_an_error_within_the_block_leaves_it_unchanged_and_no_child_behind(bench: Bench) -> None:
    async def fail_inside() -> None:
        async with bench.supervisor as supervisor:
            await supervisor.start(bench.spec(SERVE))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_inside()
    assert not alive(bench.pids()[0])


async def test_stopping_while_a_child_waits_to_be_started_again(bench: Bench) -> None:
    async with bench.supervisor as supervisor:
        supervisor._backoff = Backoff(first_seconds=60.0, longest_after_ready_seconds=60.0, longest_seconds=60.0)
        child = await supervisor.start(bench.spec(SERVE))
        os.kill(bench.pids()[0], signal.SIGKILL)
        await eventually(lambda: bool(bench.reports))
        began = time.monotonic()
    assert time.monotonic() - began < 5.0
    assert child.restarts == 0


async def test_stopping_while_a_child_is_starting(bench: Bench) -> None:
    began = time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with bench.supervisor as supervisor, asyncio.timeout(0.5):
            await supervisor.start(bench.spec(SERVE, ready_after=2))
    assert time.monotonic() - began < 5.0
    assert not any(map(alive, bench.pids()))


async def test_echoed_lines_are_reported_and_long_ones_cut(bench: Bench) -> None:
    code = f"""
        import os, sys, time
        {MARK}
        time.sleep(0.5)
        print("x" * 100000)
        print("disk full", flush=True)
        time.sleep(60)
    """
    async with bench.supervisor as supervisor:
        await supervisor.start(bench.spec(code, echo=True))
        await eventually(lambda: len(bench.reports) == 2)
    assert bench.reports == ["child: " + "x" * 2000, "child: disk full"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
async def test_a_killed_supervisor_leaves_no_child(tmp_path: Path) -> None:
    code = """
        import asyncio, sys
        from igw.child import ChildSpec
        from igw.supervisor import Supervisor

        async def ready():
            return "" if open(sys.argv[1], "a+").seek(0, 2) else "no"

        async def main():
            async with Supervisor(report=print, force=asyncio.Event()) as supervisor:
                await supervisor.start(ChildSpec("child", (sys.executable, "-c", sys.argv[2], sys.argv[1]), ready))
                await asyncio.sleep(60)

        asyncio.run(main())
    """
    mark = tmp_path / "child"
    command = [sys.executable, "-c", textwrap.dedent(code), str(mark), SERVE]
    killed = await asyncio.create_subprocess_exec(*command)
    await eventually(lambda: mark.exists() and bool(mark.read_text().strip()))
    pid = int(mark.read_text())
    assert alive(pid)
    killed.kill()
    await killed.wait()
    await eventually(lambda: not alive(pid))
