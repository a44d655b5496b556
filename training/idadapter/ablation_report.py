"""The ablations' table and figure."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

Row = tuple[str, dict[str, Any], dict[str, float]]
"""A variant's label, its figures as `evaluation.report.to_json` has them, and the paper's."""

SHOWN = (
    ("id_sim", "ID-Sim", 1, 3),
    ("expr_div", "Expr-Div, %", 100, 0),
    ("pose_div_pitch", "Pose-Div pitch, °", 1, 1),
    ("pose_div_yaw", "Pose-Div yaw, °", 1, 1),
)
"""Key, name, factor and decimals of the paper's four figures."""

BESIDE = (("top1", "top-1, %", 100, 0), ("face_found", "face found, %", 100, 0), ("realism", "realism", 1, 2))

NOTE = (
    "95 % intervals in brackets, number of pictures after them: "
    "one without a face has no ID-Sim, no Expr-Div, no Pose-Div and no realism."
)

PANEL_WIDTH, BAR, LABELS, TOP = 190, 22, 170, 46


def to_table(rows: list[Row]) -> str:
    """Markdown: a row a variant, our figures with intervals and numbers of pictures, the paper's beside them."""
    heads = [name for _, name, _, _ in SHOWN for name in (name, "paper")] + [name for _, name, _, _ in BESIDE]
    lines = ["| variant | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for label, figures, paper in rows:
        cells = []
        for key, _, factor, decimals in SHOWN:
            cells.append(_cell(figures.get(key), factor, decimals))
            cells.append(f"{factor * paper[key]:.{decimals}f}" if key in paper else "")
        cells += [_cell(figures.get(key), factor, decimals) for key, _, factor, decimals in BESIDE]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", NOTE, ""])


def to_figure(rows: list[Row]) -> str:
    """SVG: a panel a figure, a bar a variant with its 95 % interval, a diamond where the paper stands."""
    width, height = LABELS + PANEL_WIDTH * len(SHOWN), TOP + BAR * len(rows) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, (label, _, _) in enumerate(rows):
        y = TOP + BAR * index + BAR * 0.65
        parts.append(f'<text x="{LABELS - 8}" y="{y:.1f}" text-anchor="end">{escape(label)}</text>')
    for panel, (key, name, factor, decimals) in enumerate(SHOWN):
        left = LABELS + PANEL_WIDTH * panel
        parts.append(f'<text x="{left}" y="28" font-weight="bold">{escape(name)}</text>')
        shown = [figures.get(key) for _, figures, _ in rows]
        ends = [end for figure in shown if figure for end in (figure["interval"] or [figure["value"]])]
        largest = max([1e-6, *ends, *(paper[key] for _, _, paper in rows if key in paper)])
        scale = (PANEL_WIDTH - 60) / largest

        def x(value: float, left: int = left, scale: float = scale) -> float:
            return left + max(0.0, value) * scale

        for index, (_, _, paper) in enumerate(rows):
            top, middle = TOP + BAR * index + 4, TOP + BAR * index + BAR / 2
            figure = shown[index]
            if figure is not None:
                value = figure["value"]
                colour = "#3b6ea5" if index == 0 else "#9db7d3"
                parts.append(
                    f'<rect x="{left}" y="{top}" width="{x(value) - left:.1f}" height="{BAR - 8}" fill="{colour}"/>'
                )
                low, high = figure["interval"] or (value, value)
                parts.append(f'<path d="M{x(low):.1f} {middle}H{x(high):.1f}" stroke="#222"/>')
                number = f"{factor * value:.{decimals}f}"
                parts.append(f'<text x="{x(max(high, value)) + 6:.1f}" y="{middle + 4}">{number}</text>')
            if key in paper:
                at = x(paper[key])
                parts.append(f'<path d="M{at:.1f} {middle - 5}l4 5l-4 5l-4 -5z" fill="none" stroke="#c0392b"/>')
    parts.append(
        f'<text x="{LABELS}" y="{height - 6}" fill="#555">bars: this repository, with 95 % intervals; '
        "red diamonds: the paper, at Stable Diffusion 2.1</text></svg>"
    )
    return "\n".join(parts) + "\n"


def _cell(figure: dict[str, Any] | None, factor: float, decimals: int) -> str:
    if figure is None:
        return ""
    value = f"{factor * figure['value']:.{decimals}f}"
    if figure["interval"] is None:
        return value
    low, high = (f"{factor * end:.{decimals}f}" for end in figure["interval"])
    return f"{value} ({low} to {high}; {figure['count']})"
