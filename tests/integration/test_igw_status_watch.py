"""``igw status --watch`` as a process: in place on a terminal, line by line elsewhere, and gone without a trace."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from integration.standalone import free_port

PAGE = {
    "version": "9.9",
    "uptime_seconds": 1.0,
    "synced": True,
    "pools": [{"name": "default/p:v1", "endpoints": [{"address": "10.0.0.1:8000"}]}],
}
WAIT = 30.0


@asynccontextmanager
async def state_page(port: int) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/debug/state", _answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def _answer(_request: web.Request) -> web.Response:
    return web.json_response(PAGE)


async def start(port: int, *arguments: str, stdout: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "igw", "status", "--watch", "--interval", "0.1"),
        *("--admin", f"http://127.0.0.1:{port}", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, bytes]:
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(WAIT):
        _, said = await process.communicate()
    return process.returncode, said


async def read_to(stream: asyncio.StreamReader, text: bytes) -> None:
    async with asyncio.timeout(WAIT):
        while text not in await stream.readline():
            pass


@pytest.mark.timeout(90)
async def test_a_gateway_is_waited_for_lost_and_found_again() -> None:
    port = free_port()
    process = await start(port, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await read_to(process.stdout, b"waiting: no gateway answers")
    async with state_page(port):
        await read_to(process.stdout, b"10.0.0.1:8000")
    await read_to(process.stdout, b"no answer for")
    await read_to(process.stdout, b"10.0.0.1:8000")
    async with state_page(port):
        await read_to(process.stdout, b"Inference Gateway 9.9")
        assert await ended(process) == (0, b"")


@pytest.mark.timeout(90)
async def test_each_look_is_a_line_of_json_for_scripts() -> None:
    port = free_port()
    async with state_page(port):
        process = await start(port, "-o", "json", stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        async with asyncio.timeout(WAIT):
            lines = [await process.stdout.readline() for _ in range(2)]
        assert [json.loads(line) for line in lines] == [PAGE, PAGE]
        assert await ended(process) == (0, b"")


@pytest.mark.timeout(90)
async def test_a_terminal_is_redrawn_and_left_as_it_was() -> None:
    port = free_port()
    ours, theirs = pty.openpty()
    try:
        async with state_page(port):
            process = await start(port, stdout=theirs)
            os.close(theirs)
            shown = b""
            async with asyncio.timeout(WAIT):
                while shown.count(b"10.0.0.1:8000") < 2:
                    shown += await asyncio.to_thread(os.read, ours, 65536)
            assert await ended(process) == (0, b"")
            os.set_blocking(ours, False)
            while True:
                try:
                    shown += os.read(ours, 65536)
                except OSError:
                    break
    finally:
        os.close(ours)
    assert b"\x1b[1A" in shown  # up again, over the frame before
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")  # the cursor is back


@pytest.mark.timeout(90)
async def test_a_reader_that_leaves_ends_it_in_silence() -> None:
    port = free_port()
    ours, theirs = os.pipe()
    async with state_page(port):
        process = await start(port, stdout=theirs)
        os.close(theirs)
        assert await asyncio.to_thread(os.read, ours, 65536)
        os.close(ours)
        async with asyncio.timeout(WAIT):
            _, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")
