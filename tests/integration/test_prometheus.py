"""The dashboard and the rules ask a running gateway for what it has, also through a real Prometheus."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

import monitoring
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.model_servers import echo_server
from integration.prometheus_programs import program
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, eventually, free_port

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

EXPRESSIONS = monitoring.expressions()
SERVED = "simulated-model"


@dataclass
class World:
    gateway: StandaloneGateway
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway that has answered, failed over, refused and given up."""
    async with SimulatedServer(SimulatorSettings()) as good, echo_server() as bad:
        bad.status = 503
        documents = [
            *pool_with("p", [good.port, bad.port]),
            *pool_with("q", [bad.port]),
            inference_model("m", pool="p", targetModels=[{"name": SERVED}]),
            inference_model("n", pool="q"),
        ]
        async with StandaloneGateway(documents) as gateway:
            world = World(gateway, tmp_path_factory.mktemp("prometheus"))
            await send(world)
            yield world


async def send(world: World) -> None:
    traced = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    for model in ("m", "m", "m", "n", "nobody"):
        await world.gateway.chat(model, headers=traced, stream=True, content="long " * 1000)


async def test_envoy_has_every_metric_that_is_asked_of_it(world: World) -> None:
    page = await world.gateway.envoy_page("/stats/prometheus")
    known: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(envoy_\w+){(.*)} ", page, re.MULTILINE):
        known.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    ours = monitoring.recorded() | {"process_resident_memory_bytes": set()}
    asked = [e for e in EXPRESSIONS if any(name.startswith("envoy_") for name in monitoring.asked_by(e).metrics)]
    assert asked
    assert [misfit for e in asked for misfit in monitoring.misfits(known | ours, e)] == []


async def test_envoys_page_is_one_of_the_pickers(world: World) -> None:
    reply = await world.gateway.admin_page("/metrics/envoy")
    assert reply.status == 200
    assert b'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="gateway"}' in reply.body


async def test_the_page_of_open_metrics_names_traces(world: World) -> None:
    accept = {"Accept": "application/openmetrics-text"}
    async with world.gateway.session.get(f"{world.gateway.admin_url}/metrics", headers=accept) as response:
        page = await response.text()
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert re.search(r'duration_seconds_bucket{.*} [\d.]+ # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"}', page)


@asynccontextmanager
async def prometheus(world: World) -> AsyncIterator[str]:
    """A Prometheus that scrapes both pages every second and evaluates all rules; gives its address."""
    document = yaml.safe_load((monitoring.RULES[0].parent / "prometheus.yaml").read_text())
    document["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    document["rule_files"] = [str(path) for path in monitoring.RULES]
    for scrape in document["scrape_configs"]:
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{world.gateway.admin_port}"]}]
    (world.folder / "prometheus.yaml").write_text(yaml.safe_dump(document))
    port = free_port()
    with (world.folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(program("prometheus"), f"--config.file={world.folder / 'prometheus.yaml'}", "--log.level=warn"),
            *(f"--storage.tsdb.path={world.folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
            "--enable-feature=exemplar-storage",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def ask(world: World, url: str, **parameters: str) -> Any:
    """Return the data of an answer of Prometheus; None while it does not answer."""
    try:
        async with world.gateway.session.get(url, params=parameters) as response:
            answer = await response.json(content_type=None)
    except (aiohttp.ClientError, OSError, ValueError):
        return None
    return answer["data"] if answer.get("status") == "success" else answer


async def test_a_real_prometheus_scrapes_and_answers_everything(world: World) -> None:
    program("prometheus")
    async with prometheus(world) as url:

        async def scraped_twice() -> bool:
            await send(world)
            data = await ask(world, f"{url}/api/v1/query", query="min(count_over_time(up[1m])) > 4 and min(up) == 1")
            return bool(data and data["result"])

        await eventually(scraped_twice, seconds=60.0, what="Prometheus did not scrape both pages")
        rules = await ask(world, f"{url}/api/v1/rules")
        states = {rule["name"]: rule for group in rules["groups"] for rule in group["rules"]}
        assert set(states) == {rule.get("record") or rule["alert"] for rule in monitoring.rules()}
        assert {rule["health"] for rule in states.values()} <= {"ok", "unknown"}
        assert not [rule["lastError"] for rule in states.values() if rule.get("lastError")]

        empty = []
        for expression in EXPRESSIONS:
            data = await ask(world, f"{url}/api/v1/query", query=expression.plain.replace("[5m]", "[30s]"))
            assert data is not None, expression
            assert "resultType" in data, (expression, data)
            if not data["result"] and expression.where.startswith(("panel", "variable")):
                empty.append(expression.where)
        # Envoy shows some counters once there was something to count
        assert set(empty) <= {"panel Retries and broken connections"}
        window = {"start": "0", "end": "9999999999"}
        exemplars = await ask(
            world,
            f"{url}/api/v1/query_exemplars",
            query="inference_objective_request_duration_seconds_bucket",
            **window,
        )
        found = {item["labels"]["trace_id"] for series in exemplars for item in series["exemplars"]}
        assert found == {"4bf92f3577b34da6a3ce929d0e0e4736"}
        names = await ask(world, f"{url}/api/v1/label/__name__/values")
        assert "job_model:inference_gateway_requests:rate5m" in names
        assert "error" not in (world.folder / "log").read_text().lower()
