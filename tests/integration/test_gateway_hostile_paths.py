"""No spelling of a path leads past what its route says, nor to what controls a model server."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from integration.hostile_site import CHAT, Site, hostile_site
from integration.wire import request

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with hostile_site() as running:
        yield running


@pytest.mark.parametrize(
    ("path", "server", "arrives"),
    [
        pytest.param("/web/../any/x", "anything", "/any/x", id="dots"),
        pytest.param("/web/%2e%2e/any/x", "anything", "/any/x", id="escaped-dots"),
        pytest.param("/any/%2E%2e/web/x", "web", "/web/x", id="escaped-dots-to-a-service"),
        pytest.param("/web\\..\\any\\x", "anything", "/any/x", id="backslashes"),
        pytest.param("//any//x", "anything", "/any/x", id="slashes"),
        pytest.param("/%61ny/x", "anything", "/any/x", id="escaped-letter"),
        pytest.param("/../../any/x", "anything", "/any/x", id="above-the-root"),
        pytest.param("/web/..%2fany/x", "web", "/web/..%2fany/x", id="escaped-slash-stays-where-it-is"),
        pytest.param("/web/..%5cany/x", "web", "/web/..%5cany/x", id="escaped-backslash-stays-where-it-is"),
        pytest.param("/any/a%2Fb%3Fc?d=/../web", "anything", "/any/a%2Fb%3Fc?d=/../web", id="escapes-stay"),
        pytest.param("/any/%zz%", "anything", "/any/%zz%", id="broken-escapes"),
        pytest.param("/any/" + "a" * 50_000, "anything", "/any/" + "a" * 50_000, id="long"),
    ],
)
async def test_a_path_is_matched_in_the_form_in_which_it_arrives(
    site: Site, path: str, server: str, arrives: str
) -> None:
    before = site.received
    answer = await site.send(request(f"POST {path} HTTP/1.1".encode(), body=CHAT))
    assert (answer.status, site.received) == (200, before + 1)
    assert getattr(site, server).received[-1].line == f"POST {arrives} HTTP/1.1"


@pytest.mark.parametrize("path", [b"/any/%00", b"/any/\x80", b"/any/a b", b"/any/#x", b"any", b"*", b""])
async def test_what_is_no_path_is_refused(site: Site, path: bytes) -> None:
    before = site.received
    answer = await site.send(request(b"POST " + path + b" HTTP/1.1", body=CHAT))
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert site.received == before


@pytest.mark.parametrize("prefix", ["", "/any", "/open", "/named"])
@pytest.mark.parametrize(
    "path",
    [
        *("/sleep", "/v1/load_lora_adapter", "/metrics", "/update_weights_from_disk", "/slots/0", "/collective_rpc"),
        *("/SLEEP", "/v1%2fsleep", "/%73leep", "//sleep//", "/sleep;a", "/sleep/.", "/sleep%20", "/v1/x/../sleep"),
    ],
)
async def test_no_path_controls_a_model_server(site: Site, prefix: str, path: str) -> None:
    before = site.received
    for data in (
        request(f"POST {prefix}{path} HTTP/1.1".encode(), body=CHAT),
        request(f"GET {prefix}{path} HTTP/1.1".encode()),
    ):
        answer = await site.send(data)
        assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert site.received == before


async def test_a_route_that_names_a_control_path_leads_there(site: Site) -> None:
    answer = await site.send(request(b"GET /any/is_sleeping HTTP/1.1"))
    assert (answer.status, site.anything.received[-1].line) == (200, "GET /any/is_sleeping HTTP/1.1")
    assert (await site.send(request(b"GET /web/metrics HTTP/1.1"))).status == 200  # a Service is no model server
