"""Panels about model servers: their load, their failures, how they are chosen."""

from typing import Final

from panels import MODEL, NAMED_POOL, ONE, POOL, Panel, Query, rate

ENDPOINTS: Final = (
    Panel(
        "In flight by endpoint",
        "The gateway's own count, which is what it schedules by first.",
        "short",
        (Query(f"sum by (endpoint) (inference_gateway_in_flight_requests{{{POOL}}})", "{{endpoint}}"),),
    ),
    Panel(
        "Waiting by endpoint",
        "Requests that wait inside a model server, as its page says.",
        "short",
        (
            Query(
                f"max by (model_server_pod) (inference_pool_per_pod_queue_size{{{NAMED_POOL}}})",
                "{{model_server_pod}}",
            ),
        ),
    ),
    Panel(
        "KV cache by endpoint",
        "Share that is in use. Near 1 requests are preempted or wait.",
        "percentunit",
        (Query(f"max by (endpoint) (inference_gateway_kv_cache_utilization{{{POOL}}})", "{{endpoint}}"),),
        most=1,
        warn=0.9,
        bad=0.95,
    ),
    Panel(
        "First byte by endpoint, p95",
        "From the start of an attempt to the first byte of its answer.",
        "s",
        (
            Query(
                "histogram_quantile(0.95, "
                + rate("inference_gateway_attempt_first_byte_seconds_bucket", ONE, "endpoint, le")
                + ")",
                "{{endpoint}}",
            ),
        ),
    ),
    Panel(
        "Pools",
        "Ready endpoints, and how many requests each of them computes on average.",
        "short",
        (
            Query(f"sum by (name) (inference_pool_ready_pods{{{NAMED_POOL}}})", "ready {{name}}"),
            Query(f"avg by (name) (inference_pool_average_running_requests{{{NAMED_POOL}}})", "computing {{name}}"),
            Query(f"avg by (name) (inference_pool_average_queue_size{{{NAMED_POOL}}})", "waiting {{name}}"),
        ),
    ),
    Panel(
        "KV cache by pool",
        "Mean of its endpoints.",
        "percentunit",
        (Query(f"avg by (name) (inference_pool_average_kv_cache_utilization{{{NAMED_POOL}}})", "{{name}}"),),
        most=1,
        warn=0.9,
        bad=0.95,
    ),
)

FAILING: Final = (
    Panel(
        "Circuits",
        "0 closed: passing. 1 half-open: single requests probe the endpoint. 2 open: it gets none.",
        "short",
        (Query(f"max by (endpoint) (inference_gateway_endpoint_circuit_state{{{POOL}}})", "{{endpoint}}"),),
        kind="state-timeline",
        warn=1,
        bad=2,
        width=12,
    ),
    Panel(
        "Kept out",
        "Share of a pool's endpoints that get no requests.",
        "percentunit",
        (Query(f"max by (pool) (inference_gateway_pool_ejected_share{{{POOL}}})", "{{pool}}"),),
        most=1,
        bad=0.5,
        width=6,
    ),
    Panel(
        "Circuits that opened",
        "By the reason of the opening.",
        "short",
        (
            Query(
                "sum by (reason) (increase(inference_gateway_circuit_transitions_total"
                f'{{{ONE},state="open"}}[$__rate_interval]))',
                "{{reason}}",
            ),
        ),
        stacked=True,
        width=6,
    ),
    Panel(
        "Attempts by outcome",
        "Every attempt at an endpoint; a request that fails over has several.",
        "reqps",
        (Query(rate("inference_gateway_attempts_total", ONE, "outcome"), "{{outcome}}"),),
        stacked=True,
    ),
    Panel(
        "Failed attempts by endpoint",
        "Attempts that were not answered.",
        "reqps",
        (
            Query(
                rate("inference_gateway_attempts_total", f'{ONE},outcome!="answered"', "endpoint, outcome"),
                "{{endpoint}} {{outcome}}",
            ),
        ),
        stacked=True,
    ),
    Panel(
        "Failovers",
        "Requests that another endpoint had to take over; their clients noticed nothing.",
        "reqps",
        (Query(rate("inference_gateway_failovers_total", ONE), "failovers"),),
    ),
)

SCHEDULING: Final = (
    Panel(
        "Time to choose",
        "Scheduling of one request.",
        "s",
        tuple(
            Query(
                f"histogram_quantile({q}, "
                + rate("inference_extension_scheduler_e2e_duration_seconds_bucket", ONE, "le")
                + ")",
                f"p{q * 100:g}",
                exemplars=q == 0.5,
            )
            for q in (0.5, 0.99)
        ),
        width=6,
    ),
    Panel(
        "Choices",
        "`failure`: no endpoint could be chosen.",
        "reqps",
        (Query(rate("inference_extension_scheduler_attempts_total", ONE, "status"), "{{status}}"),),
        width=6,
    ),
    Panel(
        "Prefix found",
        "Share of prompts that the index expects in the chosen endpoint's cache.",
        "percentunit",
        (
            Query(
                rate("inference_extension_prefix_indexer_hit_ratio_sum", ONE)
                + " / ("
                + rate("inference_extension_prefix_indexer_hit_ratio_count", ONE)
                + " > 0)",
                "expected",
            ),
            Query(
                rate("inference_objective_prompt_cached_tokens_sum", MODEL)
                + " / ("
                + rate("inference_objective_input_tokens_sum", MODEL)
                + " > 0)",
                "found by model servers",
            ),
        ),
        most=1,
        width=6,
    ),
    Panel(
        "Prefix index",
        "Blocks in it, all endpoints together.",
        "short",
        (Query(f"sum by (instance) (inference_extension_prefix_indexer_size{{{ONE}}})", "{{instance}}"),),
        width=6,
    ),
)
