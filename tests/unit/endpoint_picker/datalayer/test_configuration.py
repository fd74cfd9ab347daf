"""An edit that cannot be used changes nothing but the reports; a start beside one serves the last good state."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from endpoint_picker.datalayer import configuration as module
from endpoint_picker.datalayer import manifest_watch
from endpoint_picker.datalayer.configuration import Configuration
from endpoint_picker.datalayer.envoy_admin import EnvoyVersions
from endpoint_picker.datalayer.envoy_files import EnvoyFiles
from endpoint_picker.datalayer.files import load_manifests
from endpoint_picker.datalayer.last_good import FILE_NAME, LastGood
from envoy_config.fields import Json
from envoy_config.render import render
from envoy_config.settings import EnvoySettings, ListenAddress
from inference_resolution.resolved import Resolution

POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: NAME}
spec: {selector: {matchLabels: {app: a}}, targetPorts: [{number: 80}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: NAME}
spec: {modelName: NAME, poolRef: {name: NAME}}
"""


class NoEnvoy:
    """An Envoy that does not run; everything is written for its start."""

    async def versions(self) -> EnvoyVersions | None:
        return None

    async def refusals(self) -> tuple[str, ...]:
        return ()


class World:
    """A folder with manifests and Envoy's files, and what a configuration said."""

    def __init__(self, folder: Path) -> None:
        self.manifest = folder / "m.yaml"
        self.run = folder / "run"
        self.run.mkdir()
        self.routed: list[list[str]] = []
        self.in_force: list[str] = []
        self.refused: list[tuple[str, ...]] = []

    def write(self, *pools: str) -> None:
        self.manifest.write_text("---\n".join(POOL.replace("NAME", name) for name in pools))

    def _render(self, resolution: Resolution) -> Mapping[str, Json]:
        listen = {"http": ListenAddress("127.0.0.1", 80)}
        return render(resolution, EnvoySettings(directory=str(self.run), listen=listen))

    def _took_over(self, resolution: Resolution) -> None:
        self.in_force = sorted(key.name for key in resolution.pools)

    def configuration(self) -> Configuration:
        return Configuration(
            [str(self.manifest)],
            load_manifests([str(self.manifest)]),
            EnvoyFiles(str(self.run), NoEnvoy(), clock=lambda: 0.0),
            listen_port=80,
            render=self._render,
            remembered=LastGood(str(self.run)),
            route_by=lambda resolution: self.routed.append(sorted(key.name for key in resolution.pools)),
            took_over=self._took_over,
            refused=self.refused.append,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        configuration = self.configuration()
        await configuration.begin()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(configuration.follow()), group.create_task(configuration.tend())]
            yield
            for task in tasks:
                task.cancel()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(manifest_watch, "_POLL_SECONDS", 0.002)
    monkeypatch.setattr(manifest_watch, "_SETTLE_SECONDS", 0.002)
    monkeypatch.setattr(module, "_TEND_SECONDS", 0.002)
    return World(tmp_path)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Holds one truth: whether there is room."""
    room = [True]
    real = os.open

    def limited(path: Any, flags: int, mode: int = 0o777) -> int:
        if not room[0] and str(path).endswith(".new"):
            raise OSError(28, "No space left on device")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", limited)
    return room


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - files have no events
            await asyncio.sleep(0.001)


async def test_a_full_disk_changes_nothing_is_said_once_and_ends_by_itself(world: World, disk: list[bool]) -> None:
    world.write("a")
    async with world.running():
        before = {path: path.read_bytes() for path in world.run.rglob("*.json")}
        disk[0] = False
        world.write("a", "b")
        await until(lambda: world.refused)
        await asyncio.sleep(0.02)
        assert len(world.refused) == 1
        assert "No space left on device" in world.refused[0][0]
        assert (world.in_force, world.routed) == (["a"], [["a"]])
        assert {path: path.read_bytes() for path in world.run.rglob("*") if path.is_file()} == before
        disk[0] = True
        await until(lambda: world.in_force == ["a", "b"])


async def test_an_edit_back_ends_what_could_not_be_written(world: World, disk: list[bool]) -> None:
    world.write("a")
    async with world.running():
        disk[0] = False
        world.write("b")
        await until(lambda: world.refused)
        world.in_force = []
        world.write("a")
        await until(lambda: world.in_force)
        disk[0] = True
        await asyncio.sleep(0.02)
        assert world.in_force == ["a"]


async def test_the_same_mistake_made_twice_is_said_twice(world: World) -> None:
    world.write("a")
    async with world.running():
        for count in (1, 2):
            world.manifest.write_text("a: [")
            await until(lambda count=count: len(world.refused) == count)
            world.write("a")
            world.in_force = []
            await until(lambda: world.in_force)


async def test_a_start_beside_broken_manifests_serves_the_last_good_ones(world: World) -> None:
    world.write("a")
    await world.configuration().begin()
    world.manifest.write_text("a: [")
    world.in_force = []
    async with world.running():
        assert world.in_force == ["a"]
        assert "m.yaml" in world.refused[0][0]
        world.write("b")
        await until(lambda: world.in_force == ["b"])


async def test_a_start_on_a_full_disk_serves_the_last_good_ones(world: World, disk: list[bool]) -> None:
    world.write("a")
    await world.configuration().begin()
    disk[0] = False
    world.in_force = []
    async with world.running():
        assert (world.in_force, world.refused) == (["a"], [])
    world.write("b")
    async with world.running():
        assert world.in_force == ["a"]
        assert "No space left on device" in world.refused[0][0]
        disk[0] = True
        await until(lambda: world.in_force == ["b"])


async def test_the_first_start_on_a_full_disk_fails(world: World, disk: list[bool]) -> None:
    world.write("a")
    disk[0] = False
    with pytest.raises(OSError, match="No space left on device"):
        await world.configuration().begin()


async def test_what_is_remembered_is_for_the_owner_only(world: World) -> None:
    world.write("a")
    await world.configuration().begin()
    assert (world.run / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_what_could_not_be_remembered_is_remembered_later(world: World, disk: list[bool]) -> None:
    (world.run / f"{FILE_NAME}.new").mkdir()
    world.write("a")
    async with world.running():
        assert world.in_force == ["a"]
        assert not (world.run / FILE_NAME).exists()
        (world.run / f"{FILE_NAME}.new").rmdir()
        await until((world.run / FILE_NAME).exists)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"texts": [{"source": "m", "text": "a: ["}]}', '{"texts": []}'])
def test_what_cannot_be_recalled_is_as_if_it_were_not_there(world: World, content: str) -> None:
    (world.run / FILE_NAME).write_text(content)
    assert LastGood(str(world.run)).recall() is None


def test_what_is_recalled_is_what_was_remembered(world: World) -> None:
    world.write("a", "b")
    loaded = load_manifests([str(world.manifest)])
    remembered = LastGood(str(world.run))
    remembered.remember(loaded)
    remembered.store()
    recalled = LastGood(str(world.run)).recall()
    assert recalled is not None
    assert recalled.located == loaded.located
