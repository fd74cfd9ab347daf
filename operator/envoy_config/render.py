"""One resolution to all of Envoy's files."""

import hashlib
import json
from collections.abc import Mapping

from envoy_config import names
from envoy_config.bootstrap import bootstrap
from envoy_config.clusters import (
    credential_file,
    endpoint_file,
    pool_clusters,
    sends_hostnames,
    service_cluster,
)
from envoy_config.fields import Json, discovery_response
from envoy_config.listeners import listener
from envoy_config.routes import RouteTable
from envoy_config.settings import EnvoySettings
from inference_resolution.resolved import Resolution


def _versioned(resources: list[Json]) -> Json:
    digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
    return discovery_response(digest[:16], resources)


def render(resolution: Resolution, settings: EnvoySettings) -> Mapping[str, Json]:
    """Return every file Envoy reads, by its path relative to *settings.directory*.

    Equal input gives equal output; an xDS file's version follows from its content. The order of the mapping is the
    order in which new content may be written: endpoints and secrets, clusters, routes, listeners.
    """
    pools = [resolution.pools[key] for key in sorted(resolution.pools)]
    services = [resolution.services[key] for key in sorted(resolution.services)]
    listeners = [entry for entry in resolution.listeners if entry.name in settings.listen]
    files: dict[str, Json] = {names.BOOTSTRAP_FILE: bootstrap(settings)}
    for pool in pools:
        name = pool.key.cluster_name
        files[names.endpoints_file(name)] = endpoint_file(name, pool.endpoints, with_hostnames=sends_hostnames(pool))
        if pool.api_key:
            files[names.secret_file(name, "credential")] = credential_file(pool)
    for service in services:
        name = service.key.cluster_name
        files[names.endpoints_file(name)] = endpoint_file(name, service.endpoints)
    files[names.CLUSTERS_FILE] = _versioned(
        [cluster for pool in pools for cluster in pool_clusters(pool, settings)]
        + [service_cluster(s, settings) for s in services]
    )
    for entry in listeners:
        files[names.routes_file(entry.name)] = _versioned([RouteTable(entry, resolution.pools, settings).render()])
    files[names.LISTENERS_FILE] = _versioned(
        [listener(entry.name, settings.listen[entry.name], settings) for entry in listeners]
    )
    return files
