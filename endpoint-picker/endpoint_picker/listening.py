"""Where data planes reach the picker: the Envoy beside it by a socket file, others by an address."""

import asyncio
import os
from pathlib import Path
from typing import Final

import grpc

from endpoint_picker.accesslog.server import METHOD as ACCESS_LOG_METHOD
from endpoint_picker.accesslog.server import AccessLogService
from endpoint_picker.config.settings import PickerSettings, parse_host_port
from endpoint_picker.extproc.health import HealthService
from endpoint_picker.extproc.server import METHOD as PROCESS_METHOD
from endpoint_picker.extproc.server import ExternalProcessor
from endpoint_picker.localgrpc.server import LocalGrpcServer
from envoy_config import names

_MESSAGE_OVERHEAD_BYTES: Final = 1024 * 1024


class DataPlaneServers:
    """The servers of external processing and of the access log.

    Args:
        settings: Where they listen and what they take.
        processor: Serves external processing.
        access_log: Takes the access log of the Envoy beside this process.
        health: Answers health checks of others.
    """

    def __init__(
        self,
        settings: PickerSettings,
        *,
        processor: ExternalProcessor,
        access_log: AccessLogService,
        health: HealthService,
    ) -> None:
        self._settings = settings
        self._message_bytes = settings.max_body_bytes + _MESSAGE_OVERHEAD_BYTES
        self._processor = processor
        self._health = health
        self._local = LocalGrpcServer(max_message_bytes=self._message_bytes)
        self._local.add(
            PROCESS_METHOD, lambda answers, headers: processor.open_local(answers, headers, spawn=self._local.spawn)
        )
        self._local.add(ACCESS_LOG_METHOD, access_log.open_local)
        self._others: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen; a socket file left behind by a killed picker is replaced.

        Raises:
            OSError: A socket cannot be made.
        """
        path = Path(self._settings.envoy_dir, names.PICKER_SOCKET)
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at start
        mask = os.umask(0o177)
        try:
            await self._local.listen(str(path))
        finally:
            os.umask(mask)
        if self._settings.grpc_listen:
            self._others = self._server_for_others(self._settings.grpc_listen)
            await self._others.start()

    async def run(self) -> None:
        """Own what takes time, until cancelled."""
        await self._local.run()

    async def stop(self, grace_seconds: float) -> None:
        """Take nothing new, let what is under way end within the grace, then cut the rest."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._local.stop(grace_seconds))
            if self._others is not None:
                group.create_task(self._others.stop(grace_seconds))

    def _server_for_others(self, address: str) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._message_bytes),
                ("grpc.max_send_message_length", self._message_bytes),
                ("grpc.max_concurrent_streams", 100_000),
                ("grpc.max_metadata_size", 128 * 1024),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
            ]
        )
        server.add_generic_rpc_handlers((self._processor.handler(), self._health.handler()))
        listen = parse_host_port(address)
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        bound = f"{host}:{listen.port}"
        settings = self._settings
        try:
            if not settings.grpc_tls_cert_file:
                server.add_insecure_port(bound)
                return server
            key = Path(settings.grpc_tls_key_file).read_bytes()
            chain = Path(settings.grpc_tls_cert_file).read_bytes()
            server.add_secure_port(bound, grpc.ssl_server_credentials([(key, chain)]))
        except RuntimeError as error:
            msg = f"grpc_listen {bound} cannot be bound: {error}"
            raise OSError(msg) from error
        return server
