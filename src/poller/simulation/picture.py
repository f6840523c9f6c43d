"""Instances and backlog over time: as lines of text, and as SVG."""

from collections.abc import Sequence
from itertools import pairwise
from xml.etree import ElementTree as ET

from poller.simulation.run import Sample

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 960, 200, 70, 40, 60
_HOUR_STEPS = (0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 168, 720)
_COLORS = {"instances": "#8a8f98", "tasks": "#1f6feb", "waiting": "#d29922", "in work": "#2da44e"}


def draw_text(values: Sequence[float], width: int, height: int) -> list[str]:
    """A bar for each of `width` equal stretches of time, as high as its highest value."""
    bars = _peaks(values, width)
    top = max(bars, default=0.0) or 1.0
    lines = []
    for row in reversed(range(height)):
        filled = (min(max(bar / top * height - row, 0.0), 1.0) for bar in bars)
        lines.append("".join(_EIGHTHS[_eighth(part)] for part in filled))
    return lines


def _eighth(part: float) -> int:
    """Whatever is not nothing shows."""
    return 0 if part <= 0 else max(1, round(part * 8))


def _peaks(values: Sequence[float], width: int) -> list[float]:
    count = min(width, len(values))
    edges = [len(values) * at // count for at in range(count + 1)] if count else []
    return [max(values[start:end]) for start, end in pairwise(edges)]


def draw_svg(samples: Sequence[Sample], title: str) -> str:
    """Two panels over one axis: what runs, and what is to be done."""
    height = _TOP + 2 * (_HEIGHT + _GAP)
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_LEFT + _WIDTH + 20} {height}",
            "font-family": "sans-serif",
            "font-size": "12",
        },
    )
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    _write(root, _LEFT, 20, title, size=15)
    hours = [sample.hour for sample in samples]
    running = {
        "instances": [float(sample.instances) for sample in samples],
        "tasks": [float(sample.tasks) for sample in samples],
    }
    todo = {
        "waiting": [float(sample.visible) for sample in samples],
        "in work": [float(sample.in_flight) for sample in samples],
    }
    _draw_panel(root, _TOP, hours, running)
    _draw_panel(root, _TOP + _HEIGHT + _GAP, hours, todo)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _draw_panel(
    root: ET.Element, top: float, hours: Sequence[float], curves: dict[str, list[float]]
) -> None:
    most = max((max(values, default=0) for values in curves.values()), default=0) or 1
    end = (hours[-1] if hours else 0) or 1
    for part in (0, 0.5, 1):
        y = top + _HEIGHT * (1 - part)
        _line(root, (_LEFT, y), (_LEFT + _WIDTH, y))
        _write(root, _LEFT - 8, y + 4, f"{round(most * part, 1):,.10g}", anchor="end")
    step = next((step for step in _HOUR_STEPS if end / step <= 12), _HOUR_STEPS[-1])
    for at in range(int(end / step) + 1):
        x = _LEFT + _WIDTH * at * step / end
        _line(root, (x, top + _HEIGHT), (x, top + _HEIGHT + 5))
        _write(root, x, top + _HEIGHT + 18, f"{at * step:g} h", anchor="middle")
    for place, (name, values) in enumerate(curves.items()):
        peaks = _peaks(values, _WIDTH)
        points = " ".join(
            f"{_LEFT + _WIDTH * at / max(1, len(peaks) - 1):.1f},"
            f"{top + _HEIGHT * (1 - value / most):.1f}"
            for at, value in enumerate(peaks)
        )
        style = {"fill": "none", "stroke": _COLORS[name], "stroke-width": "1.5"}
        ET.SubElement(root, "polyline", {"points": points, **style})
        _write(root, _LEFT + 8 + 90 * place, top + 14, name, color=_COLORS[name])


def _line(root: ET.Element, start: tuple[float, float], end: tuple[float, float]) -> None:
    places = zip(("x1", "y1", "x2", "y2"), (*start, *end), strict=True)
    marks = {name: f"{place:.1f}" for name, place in places}
    ET.SubElement(root, "line", {**marks, "stroke": "#d0d7de"})


def _write(
    root: ET.Element,
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    anchor: str = "start",
    color: str = "#24292f",
) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "font-size": str(size)}
    ET.SubElement(root, "text", {**place, "text-anchor": anchor, "fill": color}).text = text
