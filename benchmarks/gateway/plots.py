"""Plots of a run as SVG, drawn by hand: a few bars and lines need no library, and the files stay small."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from math import ceil, isnan, log10
from typing import Final

from benchmarks.gateway.arms import CONSTANT, ENVOY, GATEWAY, PICKER
from benchmarks.gateway.loads import Load, LoadFigures
from benchmarks.gateway.memory import Figures as MemoryFigures
from benchmarks.intervals import Estimate

_INK: Final = "#1f2933"
_PALE: Final = "#d9dee4"
_COLOURS: Final = {CONSTANT: "#9fb3c8", GATEWAY: "#2563eb", PICKER: "#2563eb", ENVOY: "#d97706"}
_FONT: Final = "font-family='system-ui, sans-serif' font-size='12'"
_MIB: Final = 1024 * 1024
_TICKS: Final = 4


@dataclass(frozen=True, slots=True)
class _Frame:
    """A place for one set of axes; *top* is the value at the upper edge."""

    x: float
    y: float
    width: float
    height: float
    top: float

    def at(self, value: float) -> float:
        """Return the height on the page of a *value*."""
        return self.y + self.height * (1 - min(value, self.top) / self.top)

    def axes(self, title: str) -> list[str]:
        """Return title, grid and numbers."""
        parts = [_text(self.x + self.width / 2, self.y - 10, title, anchor="middle", weight="600")]
        for tick in range(_TICKS + 1):
            value = self.top * tick / _TICKS
            y = self.at(value)
            parts.append(f"<path d='M{self.x:.0f} {y:.1f}h{self.width:.0f}' stroke='{_PALE}'/>")
            parts.append(_text(self.x - 6, y + 4, f"{value:g}", anchor="end"))
        return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400") -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-weight='{weight}'"
    return f"<text {place} fill='{_INK}'>{escape(text)}</text>"


def _round_up(value: float) -> float:
    """Return a round number that is not below *value*, with ticks that are round too."""
    if not value > 0:
        return 1.0
    unit = 10.0 ** int(log10(value) if value >= 1 else log10(value) - 1)
    return next(step * unit for step in (0.4, 0.8, 1, 1.2, 1.6, 2, 2.4, 3, 4, 6, 8, 10, 12, 20) if step * unit >= value)


def _legend(x: float, y: float, names: Mapping[str, str]) -> list[str]:
    parts = []
    for colour, name in names.items():
        parts.append(f"<rect x='{x:.0f}' y='{y - 10:.0f}' width='12' height='12' fill='{colour}'/>")
        parts.append(_text(x + 18, y, name))
        x += 40 + 7 * len(name)
    return parts


def _page(width: int, height: int, parts: Sequence[str]) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' {_FONT}>"
    return "\n".join((head, f"<rect width='{width}' height='{height}' fill='#ffffff'/>", *parts, "</svg>", ""))


def _bar(frame: _Frame, x: float, width: float, estimate: Estimate, colour: str) -> list[str]:
    if isnan(estimate.median):
        return []
    top = frame.at(max(0.0, estimate.median))
    height = frame.y + frame.height - top
    middle = x + width / 2
    low, high = frame.at(max(0.0, estimate.low)), frame.at(max(0.0, estimate.high))
    return [
        f"<rect x='{x:.1f}' y='{top:.1f}' width='{width:.1f}' height='{height:.1f}' fill='{colour}'/>",
        f"<path d='M{middle:.1f} {low:.1f}V{high:.1f}' stroke='{_INK}'/>",
    ]


def cpu_plot(figures: LoadFigures) -> str:
    """Return the picker's net CPU time per request by length of the answer, a panel per prompt and concurrency."""
    background = figures.background
    loads = {(one.workload.prompt_bytes, one.concurrency, one.workload.events): one for one in figures.loads}
    sizes, counts, events = (sorted({key[place] for key in loads}) for place in range(3))

    def estimate(load: Load, arm: str) -> Estimate:
        return Estimate.of([value * 1000 for value in load.net(arm, PICKER, background)])

    panel_width, panel_height, arms = 250, 170, (CONSTANT, GATEWAY)
    parts = _legend(60, 24, {_COLOURS[GATEWAY]: "gateway, all logic on", _COLOURS[CONSTANT]: "constant picker"})
    for (row, size), (column, count) in product(enumerate(sizes), enumerate(counts)):
        here = [(at, loads[size, count, number]) for at, number in enumerate(events) if (size, count, number) in loads]
        # One scale per row; and one long interval must not flatten all bars: what is cut off is in the table.
        medians = [
            estimate(load, arm).median for load in figures.loads if load.workload.prompt_bytes == size for arm in arms
        ]
        left, upper = 60 + column * (panel_width + 50), 70 + row * (panel_height + 75)
        frame = _Frame(left, upper, panel_width, panel_height, _round_up(1.2 * max(medians, default=0.0)))
        clients = f"{count} client{'s' if count > 1 else ''}"
        parts += frame.axes(f"{size // 1024} KB prompt, {clients}")
        step = panel_width / max(1, len(events))
        for at, load in here:
            for place, arm in enumerate(arms):
                x = frame.x + step * (at + 0.2 + 0.3 * place)
                parts += _bar(frame, x, step * 0.28, estimate(load, arm), _COLOURS[arm])
            name = f"{load.workload.events}" if load.workload.events else "JSON"
            parts.append(_text(frame.x + step * (at + 0.5), frame.y + panel_height + 16, name, anchor="middle"))
    width, height = 60 + len(counts) * (panel_width + 50), 60 + len(sizes) * (panel_height + 75)
    caption = "ms of CPU per request of the picker, net, by events of the streamed answer"
    return _page(width, height, [*parts, _text(width / 2, height - 12, caption, anchor="middle")])


def memory_plot(figures: MemoryFigures) -> str:
    """Return resident memory over requests."""
    samples = figures.samples
    last = max(1, samples[-1].requests)
    most = max(sample.resident_bytes[process] for sample in samples for process in (PICKER, ENVOY)) / _MIB
    frame = _Frame(60, 60, 640, 220, _round_up(most))
    parts = [*_legend(60, 24, {_COLOURS[PICKER]: "picker", _COLOURS[ENVOY]: "Envoy"}), *frame.axes("")]
    for process in (PICKER, ENVOY):
        points = " ".join(
            f"{frame.x + frame.width * sample.requests / last:.1f},"
            f"{frame.at(sample.resident_bytes[process] / _MIB):.1f}"
            for sample in samples
        )
        parts.append(f"<polyline points='{points}' fill='none' stroke='{_COLOURS[process]}' stroke-width='2'/>")
    judged = frame.x + frame.width / 3
    parts.append(f"<path d='M{judged:.1f} {frame.y}v{frame.height}' stroke='{_INK}' stroke-dasharray='4 4'/>")
    parts.append(_text(judged + 6, frame.y + 14, "judged from here"))
    for share in range(5):
        requests = f"{ceil(last * share / 4):,}"
        parts.append(_text(frame.x + frame.width * share / 4, frame.y + frame.height + 18, requests, anchor="middle"))
    parts.append(
        _text(frame.x + frame.width / 2, frame.y + frame.height + 38, "requests; resident MiB", anchor="middle")
    )
    return _page(740, 340, parts)
