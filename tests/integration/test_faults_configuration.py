"""Full disks and broken manifests change nothing but the reports, also for the next picker, and end by themselves."""

import asyncio
import contextlib
import json
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from endpoint_picker.datalayer.files import MAX_FILE_BYTES
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.resources import Document, inference_model, pool_with
from integration.standalone import StandaloneGateway, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

TMPFS_BYTES = 1024 * 1024
ENVOY_FILES = ("*.json", "eds/*.json", "rds/*.json")


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    server: SimulatedServer

    @property
    def manifest(self) -> Path:
        return self.gateway.folder / "manifests" / "all.yaml"

    def documents(self, *models: str) -> list[Document]:
        served = models or ("model",)
        return [*pool_with("pool", [self.server.port]), *(inference_model(name, pool="pool") for name in served)]

    def text(self, *models: str) -> str:
        return yaml.safe_dump_all(self.documents(*models), sort_keys=False)

    async def status(self, model: str) -> int:
        return (await self.gateway.chat(model)).status

    async def refused(self) -> str:
        """Wait until the picker says that what it was given cannot be used; return why."""

        async def reason() -> str:
            return str((await self.gateway.debug_state())["configuration"]["error"])

        return str(await eventually(reason, what="nothing was refused"))

    async def accepted(self) -> None:
        async def so() -> bool:
            return bool((await self.gateway.debug_state())["configuration"]["accepted"])

        await eventually(so, what="it stayed refused")

    async def serves(self, model: str) -> None:
        async def so() -> bool:
            return await self.status(model) == 200

        await eventually(so, what=f"{model} was never served")


# -- a full disk ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Disk:
    """Where Envoy's files are, and how it is filled and emptied."""

    fill: Callable[[], None] = field(default=lambda: None)
    empty: Callable[[], None] = field(default=lambda: None)


@contextmanager
def small_tmpfs(folder: Path) -> Iterator[None]:
    """A file system of its own at *folder*; skips where none may be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("no file system may be mounted")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Write until nothing fits any more."""
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def limit_files(pid: int, size: int) -> None:
    """Let a process write no file beyond *size*."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[SimulatedServer]:
    names = ("model", "second", "third")
    async with SimulatedServer(SimulatorSettings(models=names)) as server:
        yield server


@pytest.mark.parametrize("kind", ["no-room-left", "a-limit-of-file-sizes"])
async def test_a_full_disk_keeps_the_last_good_state_and_an_emptied_one_takes_the_next(
    server: SimulatedServer, tmp_path: Path, kind: str
) -> None:
    async with AsyncExitStack() as stack:
        gateway = StandaloneGateway([])
        site = Site(gateway, server)
        disk = Disk()
        if kind == "no-room-left":
            stack.enter_context(small_tmpfs(gateway.folder))
            (gateway.folder / "manifests").symlink_to(tmp_path)  # the edit itself succeeds
            disk = Disk(lambda: fill(gateway.folder), (gateway.folder / "filler").unlink)
        gateway.write_manifests(*site.documents())
        await stack.enter_async_context(gateway)
        if kind != "no-room-left":
            pid = gateway.pid("picker")
            disk = Disk(lambda: limit_files(pid, 0), lambda: limit_files(pid, resource.RLIM_INFINITY))
        assert await site.status("model") == 200

        rejected = await gateway.metric("inference_gateway_config_rejected_total")
        disk.fill()
        gateway.write_manifests(*site.documents("model", "second"))
        reason = await site.refused()
        assert "cannot be written" in reason
        assert "No space left" in reason or "File too large" in reason
        assert await gateway.metric("inference_gateway_config_last_load_success") == 0
        await asyncio.sleep(1.5)  # it tries again meanwhile
        assert await gateway.metric("inference_gateway_config_rejected_total") == rejected + 1
        # Logging fails too, and nothing else does.
        assert (await site.status("model"), await site.status("second")) == (200, 404)
        assert (await gateway.chat("model", stream=True)).body.endswith(b"data: [DONE]\n\n")
        for pattern in ENVOY_FILES:
            assert all(json.loads(path.read_bytes()) for path in gateway.folder.glob(pattern))
        assert list(gateway.folder.glob("**/*.json.new")) == []

        if kind == "no-room-left":
            await gateway.restart_picker()
            assert "No space left" in await site.refused()
            assert (await site.status("model"), await site.status("second")) == (200, 404)
        disk.empty()
        await site.serves("second")
        await site.accepted()
        assert await gateway.metric("inference_gateway_config_last_load_success") == 1


# -- broken manifests -----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(server: SimulatedServer) -> AsyncIterator[Site]:
    gateway = StandaloneGateway([*pool_with("pool", [server.port]), inference_model("model", pool="pool")])
    async with gateway:
        yield Site(gateway, server)


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    yield running
    if running.manifest.is_dir() and not running.manifest.is_symlink():
        running.manifest.rmdir()
    else:
        running.manifest.unlink(missing_ok=True)
    running.gateway.write_manifests(*running.documents())
    await running.accepted()


def half_written(site: Site) -> None:
    with site.manifest.open("r+") as file:
        file.truncate(site.manifest.stat().st_size // 2)
        file.seek(0, os.SEEK_END)
        file.write("\n  - {")


def cleared(site: Site) -> None:
    site.manifest.write_text("")


def renamed(site: Site) -> None:
    site.manifest.rename(site.manifest.with_suffix(".off"))


def unreadable(site: Site) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    site.manifest.chmod(0)


def turned_into_a_folder(site: Site) -> None:
    site.manifest.unlink()
    site.manifest.mkdir()


def turned_into_a_loop(site: Site) -> None:
    site.manifest.unlink()
    site.manifest.symlink_to(site.manifest.name)


def of_a_hundred_megabytes(site: Site) -> None:
    draft = site.manifest.with_suffix(".new")
    draft.write_text(site.text())
    os.truncate(draft, 100 * 1024 * 1024)
    draft.rename(site.manifest)


def just_too_large(site: Site) -> None:
    site.gateway.write_manifest_text(site.text() + "#" * MAX_FILE_BYTES)


def without_meaning(site: Site) -> None:
    site.gateway.write_manifests(*site.documents(), *site.documents())


def meaning_what_cannot_be(site: Site) -> None:
    annotations = {"inferencegateway.dev/first-token-timeout": "soon"}
    pool = pool_with("pool", [site.server.port], annotations=annotations)
    site.gateway.write_manifests(*pool, inference_model("model", pool="pool"))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        pytest.param(half_written, "all.yaml", id="half-written"),
        pytest.param(cleared, "no resource", id="cleared"),
        pytest.param(lambda site: site.manifest.unlink(), "holds no .yaml", id="deleted"),
        pytest.param(renamed, "holds no .yaml", id="renamed"),
        pytest.param(unreadable, "Permission denied", id="unreadable"),
        pytest.param(turned_into_a_folder, "holds no .yaml", id="a-folder"),
        pytest.param(turned_into_a_loop, "holds no .yaml", id="a-loop"),
        pytest.param(of_a_hundred_megabytes, f"larger than {MAX_FILE_BYTES}", id="of-100-MB"),
        pytest.param(just_too_large, f"larger than {MAX_FILE_BYTES}", id="just-too-large"),
        pytest.param(without_meaning, "the same object", id="objects-twice"),
        pytest.param(meaning_what_cannot_be, "first-token-timeout", id="an-annotation-that-means-nothing"),
    ],
)
async def test_a_manifest_that_breaks_changes_nothing_but_the_reports(
    site: Site, break_it: Callable[[Site], None], said: str
) -> None:
    rejected = await site.gateway.metric("inference_gateway_config_rejected_total")
    break_it(site)
    assert said in await site.refused()
    assert any(said in problem for problem in (await site.gateway.debug_state())["problems"])
    assert await site.gateway.metric("inference_gateway_config_last_load_success") == 0
    assert await site.gateway.metric("inference_gateway_config_rejected_total") > rejected
    assert await site.status("model") == 200
    (site.gateway.folder / "manifests" / "all.off").unlink(missing_ok=True)


async def test_a_mounted_config_map_is_swapped_and_swapped_back(site: Site) -> None:
    folder = site.manifest.parent
    for version, models in (("1", ("model",)), ("2", ("model", "second"))):
        (folder / f"..{version}").mkdir()
        (folder / f"..{version}" / "all.yaml").write_text(site.text(*models))

    def swap(version: str) -> None:
        (folder / "..new").symlink_to(f"..{version}")
        (folder / "..new").rename(folder / "..data")

    swap("1")
    (folder / "link").symlink_to("..data/all.yaml")
    (folder / "link").rename(site.manifest)
    await site.accepted()
    swap("2")
    await site.serves("second")
    (folder / "..data").unlink()  # as when the mount is taken away
    assert "holds no .yaml" in await site.refused()
    assert await site.status("second") == 200
    swap("1")
    await site.accepted()
    assert (await site.status("model"), await site.status("second")) == (200, 404)


async def test_a_picker_that_starts_beside_a_broken_manifest_serves_the_last_good_one(site: Site) -> None:
    await site.gateway.apply(*site.documents("model", "third"))
    site.gateway.write_manifest_text("kind: [")
    await site.refused()
    await site.gateway.restart_picker()
    assert "all.yaml" in await site.refused()
    assert (await site.status("model"), await site.status("third")) == (200, 200)
    assert await site.gateway.metric("inference_gateway_config_last_load_success") == 0
    site.gateway.write_manifests(*site.documents("model", "second"))
    await site.serves("second")
    assert await site.status("third") == 404
