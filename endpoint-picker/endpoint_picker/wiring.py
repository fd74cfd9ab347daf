"""Joins the parts of the picker; the only place where implementations are chosen."""

import asyncio
import logging
import random
import secrets
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from endpoint_picker.accesslog.server import AccessLogService
from endpoint_picker.admin.access import AdminAccess, RotatingToken
from endpoint_picker.admin.server import AdminServer
from endpoint_picker.admin.state import DebugState
from endpoint_picker.config.credentials import read_admin_token, read_api_keys
from endpoint_picker.config.open_files import ConnectionRoom, connection_room, open_file_limit
from endpoint_picker.config.scheduling import SchedulingConfigError, read_scheduling
from endpoint_picker.config.settings import (
    PickerSettings,
    SettingsProblem,
    parse_host_port,
)
from endpoint_picker.config.tracing import read_tracing
from endpoint_picker.datalayer.configuration import Configuration
from endpoint_picker.datalayer.endpoint_circuits import EndpointCircuits
from endpoint_picker.datalayer.endpoint_page import PageProblem, metrics_target, models_target
from endpoint_picker.datalayer.endpoint_store import EndpointStore
from endpoint_picker.datalayer.envoy_admin import EnvoyAdmin
from endpoint_picker.datalayer.envoy_files import EnvoyFiles
from endpoint_picker.datalayer.files import LISTENER_NAME, load_manifests
from endpoint_picker.datalayer.last_good import LastGood
from endpoint_picker.datalayer.ledger_auditor import AuditResult, LedgerAuditor
from endpoint_picker.datalayer.scraper import MetricsScraper, ScrapeIntervals
from endpoint_picker.datalayer.served_models import ServedModels
from endpoint_picker.domain.circuit import CircuitReason, CircuitSettings, CircuitState
from endpoint_picker.extproc.health import HealthService
from endpoint_picker.extproc.server import ExternalProcessor
from endpoint_picker.listening import DataPlaneServers
from endpoint_picker.requestcontrol.audit import AuditReport, InFlightAudit
from endpoint_picker.requestcontrol.body.parsed import BodyLimits
from endpoint_picker.requestcontrol.director import Director, DirectorSettings
from endpoint_picker.requestcontrol.ledger import InFlightLedger
from endpoint_picker.requestcontrol.routing import Routing
from endpoint_picker.requestcontrol.sweeper import Sweeper
from endpoint_picker.requestcontrol.traced_director import TracedDirector
from endpoint_picker.scheduling.assembly import assemble_scheduler
from endpoint_picker.scheduling.producers.prefix_index import PrefixIndex
from endpoint_picker.scheduling.settings import DEFAULT_SETTINGS, SchedulingSettings
from endpoint_picker.telemetry.exposition import Page
from endpoint_picker.telemetry.metrics import PickerMetrics
from endpoint_picker.telemetry.observer import PickerObserver
from envoy_config import names
from envoy_config.render import render
from envoy_config.settings import EnvoySettings, ListenAddress, UsageSource
from inference_resolution.resolved import Resolution

if TYPE_CHECKING:
    from endpoint_picker.telemetry.traces import Traces

logger = logging.getLogger(__name__)

_SWEEP_SECONDS: Final = 1.0
_DISTRIBUTION: Final = "inference-gateway"


class ManifestProblems(Exception):
    """The manifests are unusable at the start.

    Attributes:
        problems: One line each.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _read_scheduling_file(path: str) -> SchedulingSettings:
    if not path:
        return DEFAULT_SETTINGS
    try:
        settings, warnings = read_scheduling(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsProblem([f"scheduling_config: {path}: {error}"]) from error
    except SchedulingConfigError as error:
        raise SettingsProblem([f"{path}: {problem}" for problem in error.problems]) from error
    for warning in warnings:
        logger.warning("scheduling configuration: %s", warning)
    return settings


def _connection_room(wanted: int) -> ConnectionRoom:
    open_files = open_file_limit()
    room = connection_room(wanted, open_files)
    if room.clients < wanted:
        logger.info("max_connections is %d here, not %d: a process may open %d files", room.clients, wanted, open_files)
    return room


def _import_traces() -> "type[Traces]":
    """Return the tracing that the environment asks for; SettingsProblem without the libraries it needs."""
    try:
        from endpoint_picker.telemetry.traces import Traces  # noqa: PLC0415 - an extra that most do without
    except ImportError as error:
        problem = (
            f"OTEL_… variables ask for traces, which need the extra otel ({error}): pip install '{_DISTRIBUTION}[otel]'"
        )
        raise SettingsProblem([problem]) from error
    return Traces


class Picker:
    """One endpoint picker beside one Envoy.

    Args:
        settings: As read at the start.

    Raises:
        SettingsProblem: A file the settings name is unusable.
        ManifestProblems: A manifest is.
    """

    def __init__(self, settings: PickerSettings) -> None:
        self._settings = settings
        self._listen = parse_host_port(settings.listen)
        api_keys = read_api_keys(settings.api_key_file)
        token = settings.admin_token_file
        self._admin_access = AdminAccess(
            parse_host_port(settings.admin).host, RotatingToken(token, read_admin_token).current if token else None
        )
        scheduling = _read_scheduling_file(settings.scheduling_config)
        tracing = read_tracing()
        loaded = load_manifests(settings.manifest)
        remembered = LastGood(settings.envoy_dir)
        if loaded.problems and remembered.recall() is None:
            raise ManifestProblems(tuple(str(problem) for problem in loaded.problems))
        room = _connection_room(settings.max_connections)
        self._envoy_settings = EnvoySettings(
            directory=settings.envoy_dir,
            listen={LISTENER_NAME: ListenAddress(self._listen.host, self._listen.port)},
            max_body_bytes=settings.max_body_bytes,
            max_connections=room.clients,
            max_upstream_connections=room.model_servers,
            max_heap_bytes=settings.envoy_max_heap_bytes,
            message_timeout_seconds=settings.message_timeout_seconds,
            connect_timeout_seconds=settings.connect_timeout_seconds,
            stream_idle_timeout_seconds=settings.stream_idle_timeout_seconds,
            request_timeout_seconds=settings.request_timeout_seconds,
            usage=settings.usage,
            tracing=tracing is not None,
            hold_headers=settings.hold_headers,
            api_keys=api_keys,
        )
        rng = random.Random()  # noqa: S311 - load balancing, not cryptography
        clock = time.monotonic
        self._ledger = InFlightLedger(
            settings.in_flight_limit_seconds,
            clock=clock,
            prefill_tokens_per_second=settings.prefill_tokens_per_second,
            adopted_tokens=settings.expected_output_tokens,
        )
        self._models = ServedModels(rng=rng, changed=self._label_models)
        circuits = EndpointCircuits(
            CircuitSettings(
                failures_in_a_row=settings.ejection_failures,
                error_share=settings.ejection_error_share,
                longest_open_seconds=settings.ejection_longest_seconds,
            ),
            max_share=settings.ejection_max_share,
            clock=clock,
            rng=rng,
            moved=self._circuit_moved,
        )
        self._store = EndpointStore(self._ledger, circuits, models=lambda: self._models.lists)
        self._metrics = PickerMetrics(
            clock=clock, pools=self._store.by_pool_name, circuits=self._store.circuits_by_pool_name
        )
        boot_id = secrets.token_hex(4)
        self._traces = (
            None
            if tracing is None
            else _import_traces()(
                tracing,
                instance_id=boot_id,
                rng=rng,
                clock=clock,
                wall_clock=time.time,
                limit_seconds=settings.in_flight_limit_seconds,
                counted=self._metrics.record_spans,
            )
        )
        tracer = None if self._traces is None else self._traces.tracer
        self._observer = PickerObserver(self._metrics, clock=clock, tracer=tracer)
        self._routing = Routing(rng)
        self._prefixes = PrefixIndex()
        self._director = Director(
            routing=self._routing,
            endpoints=self._store,
            scheduling=assemble_scheduler(scheduling, random=rng, prefix_index=self._prefixes),
            ledger=self._ledger,
            observer=self._observer,
            clock=clock,
            wall_clock=time.time,
            new_request_id=lambda: str(uuid.uuid4()),
            settings=DirectorSettings(
                limits=BodyLimits(max_bytes=settings.max_body_bytes),
                add_include_usage=settings.add_include_usage,
                expected_output_tokens=settings.expected_output_tokens,
                boot_id=boot_id,
                in_flight_limit_seconds=settings.in_flight_limit_seconds,
            ),
        )
        self._scraper = MetricsScraper(
            publish=self._store.publish,
            in_flight=lambda address: self._ledger.counters(address).requests,
            failed=self._page_failed,
            clock=clock,
            rng=rng,
            intervals=ScrapeIntervals(busy=settings.scrape_busy_seconds, idle=settings.scrape_idle_seconds),
        )
        self._admin = EnvoyAdmin(f"{settings.envoy_dir}/{names.ADMIN_SOCKET}")
        self._auditor = LedgerAuditor(
            self._admin,
            InFlightAudit(self._ledger, self._director, clock=clock),
            clock=clock,
            report=self._audited,
        )
        self._resolution = Resolution()
        self._configuration = Configuration(
            settings.manifest,
            loaded,
            EnvoyFiles(settings.envoy_dir, self._admin, clock=clock),
            listen_port=self._listen.port,
            render=lambda resolution: render(resolution, self._envoy_settings),
            remembered=remembered,
            route_by=self._route_by,
            took_over=self._took_over,
            refused=self._refused,
        )
        self._state = DebugState(
            store=self._store,
            observer=self._observer,
            ledger=self._ledger,
            recent=lambda: self._director.recent,
            clock=clock,
            wall_clock=time.time,
        )
        self._health = HealthService()
        self._serving = False
        self._draining = False

    # -- running ----------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until *stop* is set, then drain.

        Raises:
            OSError: A socket or file cannot be made.
        """
        Path(self._settings.envoy_dir).mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240 - once, at start
        admin = parse_host_port(self._settings.admin)
        async with AsyncExitStack() as stack:
            if self._traces is not None:
                self._traces.start()
                stack.push_async_callback(self._traces.close)
            await stack.enter_async_context(self._admin)
            await stack.enter_async_context(
                AdminServer(
                    admin.host,
                    admin.port,
                    access=self._admin_access,
                    ready=self._not_ready_reason,
                    metrics=self._metrics_page,
                    envoy_metrics=self._admin.statistics,
                    state=self._state.page,
                )
            )
            # Envoy may be waiting for a picker: one that knows no route yet would refuse what it is asked at once
            await self._configuration.begin()
            servers = self._servers()
            stack.push_async_callback(servers.stop, 0)
            await servers.start()
            self._serving = True
            logger.info("endpoint picker ready", extra={"pools": len(self._resolution.pools)})
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(servers.run()),
                    group.create_task(self._auditor.run()),
                    group.create_task(self._scraper.run()),
                    group.create_task(self._models.run()),
                    group.create_task(self._configuration.follow()),
                    group.create_task(self._configuration.tend()),
                    group.create_task(self._sweep()),
                ]
                await stop.wait()
                self._draining = True
                self._health.set_serving(serving=False)
                await servers.stop(self._settings.drain_seconds)
                for task in tasks:
                    task.cancel()

    def _servers(self) -> DataPlaneServers:
        director, traces = self._director, self._traces
        processor = ExternalProcessor(
            director if traces is None else TracedDirector(director, traces.tracer),
            clock=time.monotonic,
            wall_clock=time.time,
            max_body_bytes=self._settings.max_body_bytes,
            max_held_bytes=self._settings.max_held_bytes,
            reads_answers=self._settings.usage is UsageSource.PICKER,
        )
        access_log = AccessLogService(self._director, on_malformed=self._metrics.record_malformed_entry)
        return DataPlaneServers(self._settings, processor=processor, access_log=access_log, health=self._health)

    async def _sweep(self) -> None:
        sweeper = Sweeper(
            self._director.sweep,
            clock=time.monotonic,
            interval_seconds=_SWEEP_SECONDS,
            report_seconds=names.PROGRESS_SECONDS,
        )
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            sweeper.tick()
            if self._traces is not None:
                self._traces.tracer.sweep()

    # -- configuration ----------------------------------------------------------------------------------------------

    def _refused(self, problems: tuple[str, ...]) -> None:
        self._metrics.record_configuration(accepted=False)
        self._state.refused(problems)

    def _took_over(self, resolution: Resolution) -> None:
        self._metrics.record_configuration(accepted=True)
        self._state.took_over(resolution, "")

    def _route_by(self, resolution: Resolution) -> None:
        """Decide requests by *resolution* from now on."""
        gone = self._store.replace(resolution.pools)
        for address in gone:
            self._prefixes.forget(address)
            self._observer.forget(address)
        self._routing.replace(resolution)
        pools = resolution.pools.values()
        self._scraper.set_targets([metrics_target(pool, e) for pool in pools for e in pool.endpoints])
        self._models.set_targets([models_target(pool, e) for pool in pools if not pool.models for e in pool.endpoints])
        self._resolution = resolution
        self._label_models()
        self._health.set_serving(serving=not self._draining)

    def _label_models(self) -> None:
        """Tell the metrics which model names are ours to use as labels."""
        found: set[str] = {model for models in self._models.lists.values() for model in models}
        for pool in self._resolution.pools.values():
            found.update(pool.models)
            found.update(target.name for model in pool.models.values() for target in model.targets)
            found.update(name for rewrite in pool.rewrites for name in rewrite.models)
            found.update(target.name for rewrite in pool.rewrites for target in rewrite.targets)
        self._metrics.set_models(found)

    # -- pages ------------------------------------------------------------------------------------------------------

    def _audited(self, result: AuditResult, report: AuditReport | None) -> None:
        self._metrics.record_audit(result.value, report, time.time())

    def _page_failed(self, address: str, problem: PageProblem) -> None:
        self._metrics.record_scrape_error(address, problem.value)
        self._store.page_failed(
            address,
            unreachable=problem is PageProblem.UNREACHABLE,
            timed_out=problem is PageProblem.TIMEOUT,
        )

    def _circuit_moved(self, address: str, state: CircuitState, reason: CircuitReason | None) -> None:
        self._metrics.record_circuit(address, state, reason)
        log = logger.warning if state is CircuitState.OPEN else logger.info
        log("circuit of endpoint %s is %s", address, state, extra={"reason": reason or ""})

    def _not_ready_reason(self) -> str:
        if self._draining:
            return "draining"
        return "" if self._serving and self._state.synced else "no configuration taken over yet"

    def _metrics_page(self, accept: str) -> Page:
        self._metrics.set_prefix_index_size(len(self._prefixes))
        return self._metrics.page(accept)
