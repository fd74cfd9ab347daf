"""Endpoints that have left stay known to Envoy for a moment, for the requests that were sent to them just before.

Between the picker's decision and Envoy's dialling lies a moment in which an edit may take the endpoint away; without
this the request would meet a pool that does not know it. Marked as draining, an endpoint is dialled only where the
picker named it: Envoy's own choice leaves it out.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Final, cast

from envoy_config.fields import Json

_STAY_SECONDS: Final = 2.0


class DepartingEndpoints:
    """Remembers for every endpoint file what has left it; written by `EnvoyFiles` only.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, dict[str, tuple[Json, float]]] = {}  # path -> endpoint -> (endpoint, when it may go)

    def merge(self, path: str, before: Json | None, content: Json) -> Json:
        """Return *content* of an endpoint file with those endpoints of *before* that may still be dialled."""
        now = self._clock()
        present = {_address(entry) for entry in _endpoints(content)}
        departing = self._until.setdefault(path, {})
        for entry in _endpoints(before) if before is not None else ():
            if _address(entry) not in present:
                draining = {**entry, "health_status": "DRAINING"}
                departing.setdefault(_address(entry), (draining, now + _STAY_SECONDS))
        for address in [a for a, (_, until) in departing.items() if a in present or until <= now]:
            del departing[address]
        if not departing:
            del self._until[path]
            return content
        digest = hashlib.sha256(repr(sorted(departing)).encode()).hexdigest()[:8]
        resource = cast("list[Json]", content["resources"])[0]
        leaving = {"lb_endpoints": [entry for entry, _ in departing.values()]}
        merged = {**resource, "endpoints": [*cast("list[Json]", resource["endpoints"]), leaving]}
        return {**content, "version_info": f"{content['version_info']}+{digest}", "resources": [merged]}

    def forget(self, path: str) -> None:
        """Forget a file that is gone."""
        self._until.pop(path, None)

    @property
    def overdue(self) -> bool:
        """Whether some of them may go now."""
        now = self._clock()
        return any(until <= now for departing in self._until.values() for _, until in departing.values())


def _endpoints(content: Json) -> list[Json]:
    resource = cast("list[Json]", content["resources"])[0]
    groups = cast("list[Json]", resource["endpoints"])
    return [entry for group in groups for entry in cast("list[Json]", group["lb_endpoints"])]


def _address(entry: Json) -> str:
    return json.dumps(cast("Json", entry["endpoint"])["address"], sort_keys=True)
