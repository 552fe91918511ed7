"""Line charts as SVG text: no library, no script, no font from elsewhere. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 36, 46
COLOURS = ("#1f6feb", "#d1495b", "#2a9d5c", "#b8860b", "#7b4fb3", "#444444", "#00838f")

Points = Sequence[tuple[float, float]]


def line_chart(
    title: str, x_label: str, y_label: str, series: Mapping[str, Points], *, log_y: bool = False
) -> str:
    """One `<svg>` element. Series without points are left out; values below the log scale sit on its floor."""
    series = {name: points for name, points in series.items() if points}
    everything = [point for points in series.values() for point in points]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(title, quote=True)}">',
        f'<text x="{LEFT}" y="20" class="title">{escape(title)}</text>',
    ]
    if not everything:
        parts.append(f'<text x="{LEFT}" y="60">no data</text></svg>')
        return "\n".join(parts)
    x_ticks = _ticks(min(x for x, _ in everything), max(x for x, _ in everything))
    ys = [y for _, y in everything]
    y_ticks = _log_ticks(ys) if log_y else _ticks(0.0, max(ys))
    to_x = _scale(x_ticks, LEFT, WIDTH - RIGHT, log=False)
    to_y = _scale(y_ticks, HEIGHT - BOTTOM, TOP, log=log_y)
    parts += [_x_tick(to_x(x), x) for x in x_ticks]
    parts += [_y_tick(to_y(y), y) for y in y_ticks]
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" class="axis">'
        f"{escape(x_label)}</text>"
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" class="axis">'
        f"{escape(y_label)}</text>"
    )
    for position, (name, points) in enumerate(series.items()):
        colour = COLOURS[position % len(COLOURS)]
        path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in sorted(points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 20:
            parts += [
                f'<circle cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="3" fill="{colour}"/>'
                for x, y in points
            ]
        at_y = TOP + 10 + 18 * position
        parts.append(
            f'<rect x="{WIDTH - RIGHT + 14}" y="{at_y - 8}" width="10" height="10"'
            f' fill="{colour}"/><text x="{WIDTH - RIGHT + 30}" y="{at_y + 1}">'
            f"{escape(name)}</text>"
        )
    parts.append("</svg>")
    return "\n".join(parts)


def _scale(ticks: Sequence[float], first: float, last: float, *, log: bool):
    low, high = ticks[0], ticks[-1]
    if log:
        low, high = math.log10(low), math.log10(high)

    def to(value: float) -> float:
        place = math.log10(max(value, ticks[0])) if log else value
        return first + (place - low) / ((high - low) or 1.0) * (last - first)

    return to


def _ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Round numbers that cover the range."""
    if high <= low:
        high = low + 1.0
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first = math.floor(low / step)
    return [round(step * n, 10) for n in range(first, math.ceil(high / step) + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    above = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(above))), math.ceil(math.log10(max(above)))
    low = max(low, high - 6)
    return [10.0**n for n in range(low, max(high, low + 1) + 1)]


def _x_tick(at: float, value: float) -> str:
    return (
        f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" class="grid"/>'
        f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" class="axis">{value:g}</text>'
    )


def _y_tick(at: float, value: float) -> str:
    return (
        f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" class="grid"/>'
        f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
    )
