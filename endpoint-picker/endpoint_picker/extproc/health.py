"""gRPC health protocol under the names that gateways and charts of the field probe."""

from typing import Final

import grpc

from endpoint_picker.extproc.server import SERVICE_NAME
from endpoint_picker.protos import health_pb2

_LIVENESS: Final = "liveness"
_READINESS_NAMES: Final = ("", "readiness", "inference-extension", SERVICE_NAME)


class HealthService:
    """Answers Check: liveness always, readiness once requests can be decided; unknown names are NOT_FOUND."""

    def __init__(self) -> None:
        self._serving = False

    def set_serving(self, *, serving: bool) -> None:
        """Say whether requests can be decided."""
        self._serving = serving

    async def check(
        self,
        request: health_pb2.HealthCheckRequest,
        context: "grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]",
    ) -> health_pb2.HealthCheckResponse:
        """Answer one check."""
        if request.service == _LIVENESS:
            serving = True
        elif request.service in _READINESS_NAMES:
            serving = self._serving
        else:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        return health_pb2.HealthCheckResponse(status=status)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to register with a gRPC server."""
        method = grpc.unary_unary_rpc_method_handler(
            self.check,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})
