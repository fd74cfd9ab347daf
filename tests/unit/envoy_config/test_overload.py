"""When memory runs short, new requests are refused before anything that was accepted is cut."""

import json
from typing import Any

from envoy_config.bootstrap import bootstrap
from envoy_config.local_replies import local_reply_config
from envoy_config.settings import EnvoySettings

MANAGER: Any = bootstrap(EnvoySettings("/tmp/igw", max_connections=7, max_heap_bytes=1000))["overload_manager"]
BEGIN = {
    entry["name"].rpartition(".")[2]: next(
        trigger.get("threshold", {}).get("value", trigger.get("scaled", {}).get("scaling_threshold"))
        for trigger in entry["triggers"]
    )
    for entry in (*MANAGER["actions"], *MANAGER["loadshed_points"])
}


def test_idle_connections_go_first_then_new_requests_then_large_uploads() -> None:
    assert BEGIN["close_idle_http_connections"] < BEGIN["stop_accepting_requests"]
    assert BEGIN["stop_accepting_requests"] <= BEGIN["http1_server_abort_dispatch"] < 1
    assert BEGIN["stop_accepting_requests"] <= BEGIN["reset_high_memory_stream"] < 1


def test_connections_and_memory_have_the_limits_of_the_settings() -> None:
    limits = json.dumps(MANAGER["resource_monitors"])
    assert '"max_active_downstream_connections": 7' in limits
    assert '"max_heap_size_bytes": 1000' in limits


def test_an_upload_that_is_cut_is_told_to_try_again() -> None:
    mappers: Any = local_reply_config()["mappers"]
    cut = next(m for m in mappers if "overload" in json.dumps(m["filter"]))
    assert cut["status_code"] == 503
    assert cut["headers_to_add"][0]["header"] == {"key": "retry-after", "value": "1"}
