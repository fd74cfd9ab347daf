"""Every target by its name."""

from fuzz.target import Target
from fuzz.targets import accesslog, body, json_usage, manifests, metrics, session, sse

TARGETS: dict[str, Target] = {
    module.TARGET.name: module.TARGET for module in (body, sse, json_usage, metrics, session, manifests, accesslog)
}
