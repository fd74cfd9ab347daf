"""Every target by its name."""

from fuzz.target import Target
from fuzz.targets import accesslog, body, json_usage, local_grpc, manifests, metrics, session, sse

TARGETS: dict[str, Target] = {
    module.TARGET.name: module.TARGET
    for module in (body, sse, json_usage, metrics, session, local_grpc, manifests, accesslog)
}
