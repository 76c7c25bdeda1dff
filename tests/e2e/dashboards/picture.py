"""The dashboard as a picture, where no Grafana is at hand: the same queries, the same places, drawn as SVG.

What it is: an honest sketch of what Prometheus answered. What it is not: a
screenshot; colours, axes and bars are simpler than Grafana's, and bars are
drawn as points.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from html import escape

from . import board
from .prometheus import Prometheus

COLUMN, LINE, GAP, HEAD = 50, 19, 6, 34
STEPS = 90
COLOURS = ["#2f6fbd", "#d9822b", "#2e8b57", "#b33a3a", "#7d5ba6", "#5b8a8a", "#a0522d", "#8a8a2f", "#c2588f", "#555555"]
SMALL = 'font-size="8"'


def draw(memory: Prometheus, redis: Prometheus) -> str:
    """The whole dashboard; panels about the store are filled from the second run."""
    panels = board.load()["panels"]
    height = HEAD + max(bottom(panel) for panel in panels) * LINE
    spans = " and ".join(f"{length(run):.0f} s" for run in (memory, redis))
    caption = (
        "Streamkeeper's dashboard: each panel's own queries, answered by Prometheus after test runs with scripted "
        f"faults ({spans}). Drawn by tests/e2e/dashboards/picture.py; not a screenshot of Grafana."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN} {height}" '
        'font-family="DejaVu Sans, sans-serif">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="8" y="21" font-size="11">{escape(caption)}</text>',
    ]
    for panel in panels:
        parts += drawn(panel, memory, redis)
    return "\n".join([*parts, "</svg>", ""])


def length(run: Prometheus) -> float:
    """How long a run's story took, in seconds."""
    return (run.ended or time.time()) - run.began


def bottom(panel: dict) -> int:
    """Where a panel ends, in rows."""
    return panel["gridPos"]["y"] + panel["gridPos"]["h"]


def drawn(panel: dict, memory: Prometheus, redis: Prometheus) -> Iterator[str]:
    """One panel: its frame, its title, what it shows."""
    place = panel["gridPos"]
    x, y = place["x"] * COLUMN + GAP / 2, HEAD + place["y"] * LINE + GAP / 2
    wide, high = place["w"] * COLUMN - GAP, place["h"] * LINE - GAP
    title = escape(panel["title"])
    if panel["type"] == "row":
        yield f'<text x="{x}" y="{y + 11}" font-size="11" font-weight="bold">{title}</text>'
        return
    yield f'<g transform="translate({x:g} {y:g})"><rect width="{wide:g}" height="{high:g}" fill="none" stroke="#ccc"/>'
    yield f'<text x="5" y="12" font-size="10">{title}</text>'
    series = list(answers(panel, memory, redis))
    if panel["type"] == "stat":
        yield from figure(panel, series, wide, high)
    elif panel["type"] == "heatmap":
        yield from heat(series, wide, high)
    else:
        yield from lines(panel, series, wide, high)
    yield "</g>"


def answers(panel: dict, memory: Prometheus, redis: Prometheus) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """(legend, points) of every series; a point's time runs from 0 to 1."""
    for target in panel["targets"]:
        query = board.Query(panel["title"], target["legendFormat"], target["expr"])
        run = redis if query.needs_redis else memory
        span = length(run)
        for one in run.over_time(query.filled("2s", f"{math.ceil(span)}s"), span / STEPS, run.began + span):
            points = [((at - run.began) / span, float(value)) for at, value in one["values"]]
            name = query.legend
            for label, value in one["metric"].items():
                name = name.replace(f"{{{{{label}}}}}", "" if label == "instance" else value)
            yield name, [point for point in points if math.isfinite(point[1])]


def shown(value: float, unit: str) -> str:
    """A number as people read it."""
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB" if value >= 2**20 else f"{value / 1024:.0f} KiB"
    return f"{value:.3g}{' s' if unit == 's' else '/min' if unit == 'opm' else '/s' if unit == 'eps' else ''}"


def figure(panel: dict, series: list, wide: float, high: float) -> Iterator[str]:
    """The last value, large."""
    for name, points in series[:1]:
        text = shown(points[-1][1], panel["fieldConfig"]["defaults"]["unit"]) if points else "–"
        yield f'<text x="{wide / 2:g}" y="{high / 2 + 15:g}" font-size="20" text-anchor="middle">{text}</text>'
        if name != "__auto":
            yield f'<text x="{wide / 2:g}" y="{high - 6:g}" {SMALL} text-anchor="middle">{escape(name)}</text>'


def lines(panel: dict, series: list, wide: float, high: float) -> Iterator[str]:
    """Lines over time from 0 up, or points where only what happened has a value."""
    left, top, width, deep = 5.0, 18.0, wide - 10, high - 44
    most = max((value for _, points in series for _, value in points), default=0.0) or 1.0
    unit, custom = panel["fieldConfig"]["defaults"]["unit"], panel["fieldConfig"]["defaults"]["custom"]
    yield f'<text x="{wide - 5:g}" y="12" {SMALL} text-anchor="end">{shown(most, unit)}</text>'
    yield f'<path d="M{left} {top}h{width:g}M{left} {top + deep:g}h{width:g}" stroke="#eee"/>'
    dots = custom["drawStyle"] == "bars"
    for number, (_, points) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        places = [f"{left + at * width:.0f} {top + deep * (1 - max(value, 0) / most):.0f}" for at, value in points]
        if dots:
            path, style = "".join(f"M{place}h0" for place in places), 'stroke-width="2.5" stroke-linecap="round"'
        else:
            path, style = "M" + "L".join(places), 'stroke-width="1"'
        if places:
            yield f'<path d="{path}" fill="none" stroke="{colour}" {style}/>'
    yield from legend([name for name, _ in series], wide, high)


def legend(names: list[str], wide: float, high: float) -> Iterator[str]:
    """The names under a panel, on two lines, as many as there is room for."""
    x, y = 5.0, high - 14
    for number, name in enumerate(names):
        room = 12 + 4.7 * len(name)
        if x + room > wide:
            if y > high - 10:
                return
            x, y = 5.0, high - 4
        yield f'<circle cx="{x + 3:g}" cy="{y - 3:g}" r="2.5" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield f'<text x="{x + 8:g}" y="{y:g}" {SMALL}>{escape(name)}</text>'
        x += room


def heat(series: list, wide: float, high: float) -> Iterator[str]:
    """Time to the right, buckets upwards; the darker, the more fell into one."""
    buckets = sorted(((float(name), dict(points)) for name, points in series), key=lambda bucket: bucket[0])
    cells, below = [], {}
    for number, (_, counts) in enumerate(buckets):
        for at, count in counts.items():
            if count - below.get(at, 0.0) > 0:
                cells.append((at, number, count - below.get(at, 0.0)))
        below = counts
    left, top, width, deep = 32.0, 18.0, wide - 37, high - 24
    tall, most = deep / max(len(buckets), 1), max((cell[2] for cell in cells), default=1.0)
    for at, number, count in cells:
        spot = f'x="{left + at * width:.0f}" y="{top + deep - (number + 1) * tall:.1f}"'
        size = f'width="{width / STEPS:.1f}" height="{tall:.1f}"'
        yield f'<rect {spot} {size} fill="#d9601a" opacity="{0.15 + 0.85 * math.sqrt(count / most):.2f}"/>'
    for number, (bound, _) in enumerate(buckets):
        if number % 3 == 0 and math.isfinite(bound):
            spot = f'x="{left - 3:g}" y="{top + deep - (number + 1) * tall + 6:.1f}"'
            yield f'<text {spot} {SMALL} text-anchor="end">{bound:g} s</text>'
