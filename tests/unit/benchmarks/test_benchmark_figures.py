"""Figures are read from what processes say: last usage of an answer, totals of a metrics page, samples of stacks."""

import os
import time

from benchmarks.cpu_clock import CpuMeter
from benchmarks.picker_profile import own_samples, total_samples
from benchmarks.server_counts import ServerCounts, counts_of
from benchmarks.text_table import table
from benchmarks.workloads import Workload


def test_totals_add_up_over_labels_and_absent_ones_are_zero() -> None:
    page = (
        "# HELP vllm:request_success_total requests\n"
        'vllm:request_success_total{finished_reason="stop"} 3.0\n'
        'vllm:request_success_total{finished_reason="length"} 4.0\n'
        "vllm:request_success_total_other 9.0\n"
        'vllm:generation_tokens_total{model_name="m"} 1.2e+03\n'
    )
    assert counts_of(page) == ServerCounts(
        requests=7, prompt_tokens=0, output_tokens=1200, cached_tokens=0, preemptions=0
    )


def test_own_time_is_the_innermost_function_and_recursion_counts_once() -> None:
    stacks = [(["main", "f", "f"], 2), (["main", "g"], 3)]
    assert own_samples(stacks) == {"f": 2, "g": 3}
    assert total_samples(stacks) == {"main": 5, "f": 2, "g": 3}


def test_a_meter_reads_the_cpu_time_of_a_process() -> None:
    meter = CpuMeter({"me": os.getpid()})
    before = time.process_time()
    sum(range(200_000))
    used = time.process_time() - before
    assert used <= meter.seconds()["me"] < used + 1.0


def test_bodies_of_a_workload_have_its_size_and_differ_from_the_first_byte_of_the_prompt() -> None:
    workload = Workload("w", 2048, events=16)
    one, other = workload.body(1), next(workload.bodies(2))
    assert other == workload.body(2)
    assert 2048 < len(one) < 2300
    prompts = [body.partition(b'"content":"')[2] for body in (one, other)]
    assert prompts[0][:12] != prompts[1][:12]


def test_columns_line_up() -> None:
    assert table(("a", "bb"), [("long", "1")]) == "a     bb\n----  --\nlong   1"
