"""The report's charts as SVG: a bar for each server's median, and a dot for each round."""

from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, TOP, ROW, BAR, BOTTOM = 860, 190, 150, 84, 34, 18, 40
PLOT = WIDTH - LEFT - RIGHT
COLORS = {"libpush": "#0f766e", "floor": "#94a3b8", "peer": "#7c8fc9"}
INK, SOFT, GRID, TARGET = "#0f172a", "#64748b", "#e2e8f0", "#dc2626"


@dataclass(frozen=True)
class Bar:
    label: str
    kind: str  # a key of COLORS
    values: tuple
    middle: float
    note: str  # the text at the bar's end


def _steps(top):
    """The distance of grid lines: a round number, so that some four to eight lines fill the width."""
    if top <= 0:
        return 1
    step = 10 ** (len(str(int(top))) - 1) if top >= 1 else 0.1
    while top / step < 4:
        step /= 2 if top / step >= 2 else 5
    while top / step > 8:
        step *= 2
    return step


def _number(value):
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _text(x, y, words, size=13, color=INK, anchor="start", weight="400", halo=False):
    around = ' paint-order="stroke" stroke="#fff" stroke-width="5" stroke-linejoin="round"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}" '
        f'font-weight="{weight}"{around}>{escape(words)}</text>'
    )


def _grid(top, scale, height):
    step, value, parts = _steps(top), 0.0, []
    while value <= top * 1.0001:
        x = LEFT + value * scale
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - BOTTOM + 4}" stroke="{GRID}"/>')
        parts.append(_text(x, height - BOTTOM + 20, _number(value), 11, SOFT, "middle"))
        value += step
    return parts


def _target_line(x, height):
    return [
        f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - BOTTOM + 4}" stroke="{TARGET}" '
        'stroke-width="1.5" stroke-dasharray="5 4"/>',
        _text(x, TOP - 13, "to reach", 11, TARGET, "middle"),
    ]


def _row(bar, y, scale):
    color, length = COLORS[bar.kind], max(bar.middle * scale, 1.5)
    weight = "600" if bar.kind == "libpush" else "400"
    parts = [
        _text(LEFT - 12, y + BAR - 4, bar.label, 13, INK, "end", weight),
        f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="3" fill="{color}"/>',
    ]
    for value in bar.values:
        x = LEFT + value * scale
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y + BAR / 2}" r="2.6" fill="#fff" stroke="{INK}" stroke-opacity="0.55"/>'
        )
    end = LEFT + max([bar.middle, *bar.values]) * scale
    parts.append(_text(end + 10, y + BAR - 4, bar.note, 12.5, INK, "start", weight, halo=True))
    return parts


def bars(title, axis, rows, target=None):
    """A chart of horizontal bars. `target` is a value to reach, or None."""
    top = max([value for row in rows for value in (row.middle, *row.values)] + [target or 0]) or 1
    height, scale = TOP + ROW * len(rows) + BOTTOM, PLOT / top
    parts = [_text(24, 30, title, 16, INK, "start", "600"), _text(24, 49, axis, 12, SOFT)]
    parts += _grid(top, scale, height)
    parts += _target_line(LEFT + target * scale, height) if target is not None else []
    for number, row in enumerate(rows):
        parts += _row(row, TOP + number * ROW + (ROW - BAR) / 2, scale)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif" role="img">'
        f"<title>{escape(title)}</title>"
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10" fill="#fff" stroke="{GRID}"/>'
        + "".join(parts) + "</svg>\n"
    )
