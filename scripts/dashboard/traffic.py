"""Panels about what clients see: overview, traffic, latency."""

from typing import Final

from panels import MODEL, NAMED_POOL, ONE, POOL, Panel, Query, quantiles, rate

_FAILURES: Final = rate("inference_objective_request_error_total", f'{MODEL},error_code!~"4.."')
_REQUESTS: Final = rate("inference_objective_request_total", MODEL)


def _stat(
    title: str,
    description: str,
    unit: str,
    expression: str,
    *,
    warn: float | None = None,
    bad: float | None = None,
) -> Panel:
    query = Query(expression, "")
    return Panel(title, description, unit, (query,), kind="stat", width=3, warn=warn, bad=bad)


OVERVIEW: Final = (
    _stat("Requests", "Requests that ended, a second.", "reqps", _REQUESTS),
    _stat(
        "Failures",
        "Share of requests that failed other than by the client's own mistake.",
        "percentunit",
        f"({_FAILURES} or vector(0)) / ({_REQUESTS} > 0)",
        warn=0.005,
        bad=0.03,
    ),
    _stat(
        "First token, p95",
        "From the start of a stream to its first token.",
        "s",
        f"histogram_quantile(0.95, {rate('inference_objective_request_ttft_seconds_bucket', MODEL, 'le')})",
        warn=5,
        bad=10,
    ),
    _stat("Output", "Completion tokens a second.", "short", rate("inference_objective_output_tokens_sum", MODEL)),
    _stat(
        "In flight",
        "Requests sent to endpoints and not ended.",
        "short",
        f"sum(inference_gateway_in_flight_requests{{{POOL}}})",
    ),
    _stat("Endpoints", "Ready endpoints.", "short", f"sum(inference_pool_ready_pods{{{NAMED_POOL}}})"),
    _stat(
        "Kept out",
        "Endpoints whose circuit is open.",
        "short",
        f"count(inference_gateway_endpoint_circuit_state{{{POOL}}} == 2) or vector(0)",
        warn=1,
        bad=2,
    ),
    _stat("Gateways", "Pickers that are scraped.", "short", f"count(inference_extension_info{{{ONE}}})"),
)

TRAFFIC: Final = (
    Panel(
        "Requests by model",
        "Requests that ended. `other`: names that no model has.",
        "reqps",
        (Query(rate("inference_objective_request_total", MODEL, "model_name"), "{{model_name}}"),),
        stacked=True,
    ),
    Panel(
        "Errors by code",
        "A status, or the flag of Envoy that says how an answer broke. 4xx are the client's own.",
        "reqps",
        (Query(rate("inference_objective_request_error_total", MODEL, "error_code"), "{{error_code}}"),),
        stacked=True,
    ),
    Panel(
        "Tokens",
        "As the model servers counted them; cached ones are part of the prompts.",
        "short",
        (
            Query(rate("inference_objective_input_tokens_sum", MODEL), "prompt"),
            Query(rate("inference_objective_prompt_cached_tokens_sum", MODEL), "cached"),
            Query(rate("inference_objective_output_tokens_sum", MODEL), "completion"),
        ),
    ),
    Panel(
        "Under way by model",
        "Requests between their decision and their end.",
        "short",
        (Query(f"sum by (model_name) (inference_objective_running_requests{{{MODEL}}})", "{{model_name}}"),),
        stacked=True,
    ),
    Panel(
        "Prompt length",
        "Tokens of prompts, cached ones included.",
        "short",
        quantiles("inference_objective_input_tokens", MODEL, "model_name")[:2],
    ),
    Panel(
        "Answer length",
        "Tokens of answers.",
        "short",
        quantiles("inference_objective_output_tokens", MODEL, "model_name")[:2],
    ),
)

LATENCY: Final = (
    Panel(
        "Time to first token",
        "From the start of a stream to its first token; the dots are traces.",
        "s",
        quantiles("inference_objective_request_ttft_seconds", MODEL, "model_name"),
        width=12,
    ),
    Panel(
        "Time per output token",
        "Mean time between the tokens of a stream.",
        "s",
        quantiles("inference_objective_request_tpot_seconds", MODEL, "model_name"),
        width=12,
    ),
    Panel(
        "Duration",
        "From the start of a request to its end; the dots are traces.",
        "s",
        quantiles("inference_objective_request_duration_seconds", MODEL, "model_name"),
        width=12,
    ),
    Panel(
        "First tokens over time",
        "How many streams had their first token within which time.",
        "s",
        (Query(rate("inference_objective_request_ttft_seconds_bucket", MODEL, "le"), "{{le}}"),),
        kind="heatmap",
        width=12,
    ),
)
