"""Panels about the gateway itself: its books, its configuration, its processes."""

from typing import Final

from panels import ENVOY, ONE, POOL, RATE, Panel, Query, rate

BOOKS: Final = (
    Panel(
        "Drift of the ledger",
        "Requests that Envoy has beyond the ledger, and what audits added to it. Under load a few come and go.",
        "short",
        (
            Query(f"sum by (endpoint) (inference_gateway_ledger_drift_requests{{{ONE}}})", "drift {{endpoint}}"),
            Query(f"sum by (endpoint) (inference_gateway_ledger_correction_requests{{{ONE}}})", "mended {{endpoint}}"),
        ),
        signed=True,
    ),
    Panel(
        "Corrections of the ledger",
        "What audits added or took away, what its time limit released, what ended without being known.",
        "short",
        (
            Query(rate("inference_gateway_ledger_corrected_requests_total", ONE, "direction"), "{{direction}}"),
            Query(rate("inference_gateway_ledger_expired_total", ONE), "expired"),
            Query(rate("inference_gateway_ledger_unknown_releases_total", ONE), "unknown"),
        ),
    ),
    Panel(
        "Audits",
        "Comparisons of the ledger with Envoy's counts, and the age of the latest.",
        "short",
        (
            Query(rate("inference_gateway_ledger_audits_total", ONE, "result"), "{{result}} a second"),
            Query(
                f"time() - max by (instance) (inference_gateway_ledger_last_audit_timestamp_seconds{{{ONE}}})",
                "age {{instance}}, s",
            ),
        ),
    ),
    Panel(
        "Age of metrics",
        "Of the last reading of each model server's page.",
        "s",
        (Query(f"max by (endpoint) (inference_gateway_scrape_age_seconds{{{POOL}}})", "{{endpoint}}"),),
        warn=5,
        bad=10,
    ),
    Panel(
        "Metrics pages that could not be used",
        "By endpoint and reason.",
        "short",
        (Query(rate("inference_gateway_scrape_errors_total", ONE, "endpoint, reason"), "{{endpoint}} {{reason}}"),),
        stacked=True,
    ),
    Panel(
        "Configuration",
        "1: the last edit is in force. Refused edits and unreadable reports of Envoy beside it.",
        "short",
        (
            Query(f"min by (instance) (inference_gateway_config_last_load_success{{{ONE}}})", "in force {{instance}}"),
            Query(f"increase(inference_gateway_config_version{{{ONE}}}[$__rate_interval])", "taken over {{instance}}"),
            Query(rate("inference_gateway_config_rejected_total", ONE), "refused a second"),
            Query(rate("inference_gateway_access_log_malformed_total", ONE), "unreadable reports a second"),
        ),
    ),
)

PROCESSES: Final = (
    Panel(
        "CPU of the picker",
        "Cores. It decides on one.",
        "short",
        (Query(rate("process_cpu_seconds_total", ONE, "instance"), "{{instance}}"),),
        warn=0.6,
        bad=0.8,
        width=6,
    ),
    Panel(
        "Memory",
        "Resident memory of the picker; Envoy's own heap.",
        "bytes",
        (
            Query(f"sum by (instance) (process_resident_memory_bytes{{{ONE}}})", "picker {{instance}}"),
            Query("sum by (instance) (envoy_server_memory_physical_size)", "envoy {{instance}}"),
        ),
        width=6,
    ),
    Panel(
        "Files of the picker",
        "Open files, of those it may open.",
        "percentunit",
        (Query(f"process_open_fds{{{ONE}}} / process_max_fds{{{ONE}}}", "{{instance}}"),),
        most=1,
        bad=0.8,
        width=6,
    ),
    Panel(
        "Spans",
        "By what became of them; nothing while tracing is off.",
        "short",
        (Query(rate("inference_gateway_trace_spans_total", ONE, "outcome"), "{{outcome}}"),),
        width=6,
    ),
    Panel(
        "Connections of clients",
        "Envoy's count, and how near it is to its limits.",
        "short",
        (
            Query(f"sum by (instance) (envoy_http_downstream_cx_active{{{ENVOY}}})", "connections {{instance}}"),
            Query(f"sum by (instance) (envoy_http_downstream_rq_active{{{ENVOY}}})", "requests {{instance}}"),
        ),
        width=6,
    ),
    Panel(
        "Statuses that clients got",
        "Envoy's count; answers that no picker saw are among them.",
        "reqps",
        (
            Query(
                f"sum by (envoy_response_code_class) (rate(envoy_http_downstream_rq_xx{{{ENVOY}}}{RATE}))",
                "{{envoy_response_code_class}}xx",
            ),
        ),
        stacked=True,
        width=6,
    ),
    Panel(
        "Pressure on Envoy",
        "Per cent of its memory and of its connections.",
        "percent",
        (
            Query("envoy_overload_envoy_resource_monitors_fixed_heap_pressure", "memory {{instance}}"),
            Query(
                "envoy_overload_envoy_resource_monitors_global_downstream_max_connections_pressure",
                "connections {{instance}}",
            ),
        ),
        most=100,
        warn=75,
        bad=90,
        width=6,
    ),
    Panel(
        "Retries and broken connections",
        "Envoy's count towards model servers.",
        "reqps",
        (
            Query(f"sum(rate(envoy_cluster_upstream_rq_retry{RATE}))", "retries"),
            Query(f"sum(rate(envoy_cluster_upstream_cx_connect_fail{RATE}))", "refused connections"),
            Query(f"sum(rate(envoy_cluster_upstream_rq_timeout{RATE}))", "timeouts"),
        ),
        width=6,
    ),
)
