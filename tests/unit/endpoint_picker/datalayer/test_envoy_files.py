"""Envoy's files are written so that no request meets a name that Envoy does not know, and a refusal changes nothing."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from endpoint_picker.datalayer import envoy_files
from endpoint_picker.datalayer.envoy_admin import EnvoyVersions
from endpoint_picker.datalayer.envoy_files import EnvoyFiles, Outcome
from envoy_config import names
from envoy_config.fields import Json
from envoy_config.render import render
from envoy_config.settings import EnvoySettings, ListenAddress
from picker_world import OTHER_POOL, POOL, entry_to, pool_of, resolution_of

ROUTES = names.routes_file("http")


class FakeEnvoy:
    """Reads the files as Envoy does, one look after they were written; notes what it takes over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.runs = True
        self.refuses = ""
        self.rejected = 0
        self.taken: dict[str, str] = {}
        self.events: list[str] = []
        self._seen_refused: set[str] = set()

    async def versions(self) -> EnvoyVersions | None:
        if not self.runs:
            return None
        for path in sorted(self._folder.rglob("*.json")):
            name = str(path.relative_to(self._folder))
            content = json.loads(path.read_text())
            version = content.get("version_info", "")
            if not version or self.taken.get(name) == version:
                continue
            if name == self.refuses:
                if version not in self._seen_refused:
                    self._seen_refused.add(version)
                    self.rejected += 1
                continue
            self.taken[name] = version
            self.events.append(name.partition("/")[0])
        routes = (("http", self.taken.get(ROUTES, "")),)
        endpoints = tuple(
            (key.cluster_name.replace(":", "_"), self.taken.get(names.endpoints_file(key.cluster_name), ""))
            for key in (POOL, OTHER_POOL)
        )
        return EnvoyVersions(
            self.taken.get(names.CLUSTERS_FILE, ""),
            self.taken.get(names.LISTENERS_FILE, ""),
            routes,
            self.rejected,
            0,
            endpoints,
        )

    async def refusals(self) -> tuple[str, ...]:
        return ("because",)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Desk:
    """Files under test, the Envoy that reads them, and what happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.envoy = FakeEnvoy(folder)
        self.clock = Clock()
        self.files = EnvoyFiles(str(folder), self.envoy, clock=self.clock)

    async def apply(self, files: Mapping[str, Json], routed: Callable[[], None] | None = None) -> Outcome:
        return await self.files.apply(files, before_routes=routed or (lambda: self.envoy.events.append("routed")))

    def content(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def clusters(self) -> list[str]:
        return [cluster["name"] for cluster in self.content(names.CLUSTERS_FILE)["resources"]]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(envoy_files, "_POLL_SECONDS", 0.0)
    return Desk(tmp_path / "envoy")


def rendered(*keys: Any, api_key: str = "", endpoints: int = 1) -> dict[str, Json]:
    pools = [pool_of(key, api_key=api_key, endpoints=endpoints) for key in keys]
    entries = [entry_to(key, name=f"r-{key.name}") for key in keys]
    settings = EnvoySettings(directory="/run/gw", listen={"http": ListenAddress("127.0.0.1", 80)})
    return dict(render(resolution_of(*entries, pools=pools), settings))


async def test_the_order(desk: Desk) -> None:
    outcome = await desk.apply(rendered(POOL))
    assert outcome == Outcome(accepted=True, running=True)
    events = desk.envoy.events
    assert events.index(names.CLUSTERS_FILE) < events.index("routed") < events.index("rds")
    assert events.index("eds") < events.index("routed")
    assert events.index("rds") < events.index(names.LISTENERS_FILE)


async def test_without_envoy_everything_is_written_for_its_start(desk: Desk) -> None:
    desk.envoy.runs = False
    files = rendered(POOL, api_key="k")
    assert await desk.apply(files) == Outcome(accepted=True, running=False)
    assert {str(p.relative_to(desk.folder)) for p in desk.folder.rglob("*") if p.is_file()} == set(files)
    assert all(desk.content(path) == content for path, content in files.items())


async def test_nobody_else_may_read_them(desk: Desk) -> None:
    await desk.apply(rendered(POOL, api_key="k"))
    modes = {p.is_dir(): p.stat().st_mode & 0o777 for p in (desk.folder, *desk.folder.rglob("*"))}
    assert modes == {True: 0o700, False: 0o600}


async def test_what_is_the_same_is_not_written_again(desk: Desk) -> None:
    await desk.apply(rendered(POOL))
    before = {path: path.stat().st_ino for path in desk.folder.rglob("*.json")}
    await desk.apply(rendered(POOL))
    assert {path: path.stat().st_ino for path in desk.folder.rglob("*.json")} == before


async def test_a_departed_cluster_lingers_and_then_goes(desk: Desk) -> None:
    await desk.apply(rendered(POOL, OTHER_POOL))
    await desk.apply(after := rendered(POOL))
    desk.files.prune(after)
    assert desk.clusters() == [POOL.cluster_name, OTHER_POOL.cluster_name]
    assert (desk.folder / names.endpoints_file(OTHER_POOL.cluster_name)).exists()
    assert (desk.files.lingering, desk.files.overdue) == (True, False)
    desk.clock.now += 61
    assert desk.files.overdue
    await desk.apply(after)
    desk.files.prune(after)
    assert desk.clusters() == [POOL.cluster_name]
    assert not (desk.folder / names.endpoints_file(OTHER_POOL.cluster_name)).exists()
    assert not desk.files.lingering


async def test_a_secret_lives_as_long_as_its_cluster(desk: Desk) -> None:
    secret = desk.folder / names.secret_file(OTHER_POOL.cluster_name, "credential")
    await desk.apply(rendered(POOL, OTHER_POOL, api_key="k"))
    await desk.apply(after := rendered(POOL, api_key="k"))
    desk.files.prune(after)
    assert secret.exists()
    desk.clock.now += 61
    await desk.apply(after)
    desk.files.prune(after)
    assert not secret.exists()


async def test_a_cluster_that_comes_back_stays(desk: Desk) -> None:
    both = rendered(POOL, OTHER_POOL)
    await desk.apply(both)
    await desk.apply(rendered(POOL))
    await desk.apply(both)
    assert not desk.files.lingering
    assert desk.clusters() == [POOL.cluster_name, OTHER_POOL.cluster_name]


async def test_different_departures_have_different_versions(desk: Desk) -> None:
    await desk.apply(rendered(POOL, OTHER_POOL))
    await desk.apply(rendered(POOL))
    one = desk.content(names.CLUSTERS_FILE)["version_info"]
    desk.clock.now += 61
    await desk.apply(rendered(POOL))
    assert desk.content(names.CLUSTERS_FILE)["version_info"] != one


@pytest.mark.parametrize("path", [names.CLUSTERS_FILE, ROUTES])
async def test_a_refusal_is_told_and_what_was_in_force_is_put_back(desk: Desk, path: str) -> None:
    await desk.apply(rendered(POOL))
    good = desk.content(path)
    desk.envoy.refuses = path
    outcome = await desk.apply(worse := rendered(POOL, OTHER_POOL))
    assert outcome == Outcome(accepted=False, running=True, message="because")
    assert desk.content(path) == good
    assert not (await desk.apply(worse)).accepted  # the same again is no better
    desk.envoy.refuses = ""
    assert (await desk.apply(rendered(POOL))).accepted


async def test_a_refused_cluster_file_is_not_routed_to(desk: Desk) -> None:
    await desk.apply(rendered(POOL))
    desk.envoy.events.clear()
    desk.envoy.refuses = names.CLUSTERS_FILE
    await desk.apply(rendered(POOL, OTHER_POOL))
    assert "routed" not in desk.envoy.events
    assert "rds" not in desk.envoy.events


async def test_an_envoy_that_never_says_anything_is_not_waited_for_long(desk: Desk) -> None:
    await desk.apply(rendered(POOL))
    desk.clock.now += 1

    async def silent() -> EnvoyVersions:
        desk.clock.now += 1
        return EnvoyVersions()

    desk.envoy.versions = silent  # type: ignore[method-assign]
    outcome = await desk.apply(rendered(POOL, OTHER_POOL))
    assert not outcome.accepted
    assert "did not take over" in outcome.message


async def test_a_left_over_of_a_killed_writer_is_replaced(desk: Desk) -> None:
    desk.folder.mkdir(mode=0o700)
    (desk.folder / f"{names.CLUSTERS_FILE}.new").write_text("half")
    await desk.apply(files := rendered(POOL))
    assert desk.content(names.CLUSTERS_FILE) == files[names.CLUSTERS_FILE]


async def test_an_envoy_that_starts_later_is_asked_what_it_made_of_them(desk: Desk) -> None:
    desk.envoy.runs = False
    await desk.apply(rendered(POOL))
    assert await desk.files.verify() is None
    desk.envoy.runs = True
    assert await desk.files.verify() == Outcome(accepted=True, running=True)


async def test_an_envoy_that_starts_later_and_refuses_is_heard(desk: Desk) -> None:
    desk.envoy.runs = False
    await desk.apply(rendered(POOL))
    desk.envoy.runs, desk.envoy.refuses = True, names.LISTENERS_FILE
    assert await desk.files.verify() == Outcome(accepted=False, running=True, message="because")


async def test_a_folder_that_cannot_be_written_is_an_error(desk: Desk) -> None:
    desk.folder.write_text("a file is in the way")
    with pytest.raises(OSError, match=r"exists|directory"):
        await desk.apply(rendered(POOL))
