"""All files as one static document: for `igw config dump`, reviews and `envoy --mode validate`."""

from collections.abc import Mapping
from typing import cast

from envoy_config import names
from envoy_config.fields import Json


def _resources(files: Mapping[str, Json], path: str) -> list[Json]:
    return cast("list[Json]", files[path]["resources"])


def _without_type(resource: Json) -> Json:
    return {key: value for key, value in resource.items() if key != "@type"}


def _static_cluster(cluster: Json, files: Mapping[str, Json]) -> Json:
    source = cast("Json", cluster["eds_cluster_config"])
    assignment = _without_type(_resources(files, names.endpoints_file(cast("str", source["service_name"])))[0])
    rest = {k: v for k, v in cluster.items() if k not in {"@type", "type", "eds_cluster_config"}}
    return {**rest, "type": "STATIC", "load_assignment": assignment}


def _static_listener(listener: Json, files: Mapping[str, Json]) -> Json:
    name = cast("str", listener["name"])
    chain = cast("list[Json]", listener["filter_chains"])[0]
    manager = cast("list[Json]", chain["filters"])[0]
    config = {k: v for k, v in cast("Json", manager["typed_config"]).items() if k != "rds"}
    config["route_config"] = _without_type(_resources(files, names.routes_file(name))[0])
    return {**_without_type(listener), "filter_chains": [{"filters": [{**manager, "typed_config": config}]}]}


def static_document(files: Mapping[str, Json]) -> Json:
    """Return the configuration as one start-up document with static resources.

    Secrets stay references to their files. *files* is the result of `render`.
    """
    start = {k: v for k, v in files[names.BOOTSTRAP_FILE].items() if k != "dynamic_resources"}
    picker = cast("list[Json]", cast("Json", start["static_resources"])["clusters"])
    start["static_resources"] = {
        "listeners": [_static_listener(entry, files) for entry in _resources(files, names.LISTENERS_FILE)],
        "clusters": [*picker, *(_static_cluster(c, files) for c in _resources(files, names.CLUSTERS_FILE))],
    }
    return start
