"""Plots are well-formed SVG whose bars and lines are as high as the figures say."""

from xml.etree import ElementTree as ET

import pytest
from benchmarks.gateway.arms import CONSTANT, ENVOY, GATEWAY, PICKER, Use
from benchmarks.gateway.loads import Load, LoadFigures, Pass
from benchmarks.gateway.memory import Figures, Sample
from benchmarks.gateway.plots import cpu_plot, memory_plot
from benchmarks.quantiles import Summary
from benchmarks.workloads import BY_NAME

SVG = "{http://www.w3.org/2000/svg}"
MIB = 1024 * 1024


def load(name: str, concurrency: int, gateway: float) -> Load:
    """Return a load whose picker takes so many seconds per request, and the constant one half of it."""
    found = Load(BY_NAME[name], concurrency, requests=1)
    for arm, cpu in ((GATEWAY, gateway), (CONSTANT, gateway / 2)):
        found.passes[arm] = [Pass(1, (), Use(1.0, {PICKER: cpu}, 0), Summary.of([0.001]))]
    return found


def test_bars_are_in_proportion_within_a_prompts_size_and_every_load_has_its_own() -> None:
    figures = LoadFigures((load("json-2k", 1, 0.002), load("json-2k", 16, 0.004), load("stream16-100k", 16, 0.004)), ())
    root = ET.fromstring(cpu_plot(figures))
    bars = [float(bar.attrib["height"]) for bar in root.iter(f"{SVG}rect") if bar.attrib["height"] not in ("12", "0")]
    heights = sorted(bars)[:-1]  # the largest is the background
    assert len(heights) == 6
    # 1 and 2 ms, 2 and 4 ms, and with a scale of its own 2 and 4 ms
    assert [height / max(heights) for height in heights] == pytest.approx([0.25, 0.5, 0.5, 0.5, 1.0, 1.0], abs=0.01)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"2 KB prompt, 1 client", "2 KB prompt, 16 clients", "100 KB prompt, 16 clients", "JSON"} <= set(texts)


def test_memory_is_a_line_per_process_that_rises_with_it() -> None:
    samples = tuple(Sample(n, 0.0, {PICKER: (50 + n) * MIB, ENVOY: 80 * MIB}, {}) for n in (0, 10, 20))
    root = ET.fromstring(memory_plot(Figures(samples, (), 0, 0)))
    picker, envoy = (
        [float(p.split(",")[1]) for p in line.attrib["points"].split()] for line in root.iter(f"{SVG}polyline")
    )
    assert picker[0] > picker[1] > picker[2]
    assert len(set(envoy)) == 1
    assert picker[0] > envoy[0] > 0
