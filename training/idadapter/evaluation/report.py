"""The one table, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..judges.panel import TURNED_FROM
from .asks import EMOTIONS_SEEN
from .columns import Column, Group
from .figures import Figure

PERCENT, COSINE, DEGREES, DISTANCE, DECIBELS, COLOUR = "percent", "cosine", "degrees", "distance", "decibels", "colour"

ROWS = (
    ("face_found", "face found", PERCENT, "≥ 98 %"),
    ("id_sim", "ID-Sim (prompt: class noun)", COSINE, "≥ 0.50"),
    ("id_sim_strangers", "the same with strangers", COSINE, ""),
    ("top1", "top-1 among the people", PERCENT, "≥ 90 %"),
    ("id_sim_prompts", "ID-Sim, all photo prompts", COSINE, ""),
    ("top1_prompts", "top-1, all photo prompts", PERCENT, ""),
    ("id_sim_renditions", "ID-Sim, renditions (real photos: by image filters)", COSINE, ""),
    ("top1_renditions", "top-1, renditions", PERCENT, ""),
    ("own_similarity", "the service's own identity_similarity", COSINE, ""),
    ("skin_difference", "ΔE of the skin to the reference's, all photo prompts but hats", COLOUR, ""),
    ("skin_difference_strangers", "the same with strangers' skin", COLOUR, ""),
    ("hair_difference", "ΔE above the forehead, all photo prompts but hats", COLOUR, ""),
    ("hair_difference_strangers", "the same with strangers' hair", COLOUR, ""),
    ("realism", "realism: kernel distance, all photo prompts", DISTANCE, "≤ 1.0"),
    ("realism_noun", "realism, class noun alone", DISTANCE, ""),
    ("psnr", "PSNR", DECIBELS, ""),
    ("green", "green against red and blue: share of its variance told", PERCENT, ""),
    ("expr_div", "Expr-Div (prompt: class noun + expression word)", PERCENT, "≥ 65 %"),
    ("pose_div_pitch", "Pose-Div pitch", DEGREES, ""),
    ("pose_div_yaw", "Pose-Div yaw", DEGREES, "≥ 12°"),
    ("expression_reached", "smiling or not smiling as asked", PERCENT, "≥ 90 %"),
    ("smiling_reached", "— smiling", PERCENT, ""),
    ("not_smiling_reached", "— not smiling", PERCENT, ""),
    ("emotion_reached", "emotion as asked, its class the most probable of seven", PERCENT, ""),
    *((f"{word}_reached", f"— {word}", PERCENT, "") for word in EMOTIONS_SEEN),
    ("view_reached", f"left or right as asked, over {TURNED_FROM:g}°", PERCENT, "≥ 85 %"),
    ("left_reached", "— left", PERCENT, ""),
    ("right_reached", "— right", PERCENT, ""),
    ("glasses_reached", "glasses as asked", PERCENT, ""),
    ("glasses_absent", "no glasses unasked", PERCENT, ""),
    ("hat_reached", "hat as asked", PERCENT, ""),
    ("hat_absent", "no hat unasked", PERCENT, ""),
    ("rendition_reached", "rendition as asked", PERCENT, ""),
    ("pencil_sketch_reached", "— pencil sketch", PERCENT, ""),
    ("cartoon_reached", "— cartoon", PERCENT, ""),
    ("oil_painting_reached", "— oil painting", PERCENT, ""),
    ("black_and_white_reached", "— black and white", PERCENT, ""),
    ("photo_reached", "a photo where no rendition is asked", PERCENT, ""),
)
"""Key, name, unit and target of every figure, in the table's order."""

COLUMNS = {"portraits": "portraits", "photos": "real photos", "decoded": "real photos through the autoencoder"}


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found.

    Attributes:
        settings: what was judged and how.
        columns: by the keys of `COLUMNS`; `portraits` is missing where only ceilings were asked for.
        groups: portraits by group of people.
        judges: what was tested of the judges on held-out photos, to share right and number of pictures.
    """

    settings: dict[str, object]
    columns: dict[str, Column]
    groups: list[Group]
    judges: dict[str, tuple[float, int]]


def to_json(evaluation: Evaluation) -> dict[str, object]:
    """The evaluation as plain JSON; figures that could not be taken are null."""
    return {
        "settings": evaluation.settings,
        "figures": {
            name: {key: None if figure is None else _plain(figure) for key, figure in column.items()}
            for name, column in evaluation.columns.items()
        },
        "groups": [asdict(group) for group in evaluation.groups],
        "judges": {name: {"right": share, "count": count} for name, (share, count) in evaluation.judges.items()},
    }


def to_markdown(evaluation: Evaluation) -> str:
    """The evaluation as markdown: the table, the groups, the judges."""
    names = [name for name in COLUMNS if name in evaluation.columns]
    lines = [
        f"| figure | {' | '.join(COLUMNS[name] for name in names)} | target |",
        f"| --- |{' --- |' * (len(names) + 1)}",
    ]
    for key, label, unit, target in ROWS:
        cells = [show(evaluation.columns[name].get(key), unit) for name in names]
        if any(cells):
            lines.append(f"| {label} | {' | '.join(cells)} | {target} |")
    if evaluation.groups:
        lines += ["", "| group | people | ID-Sim | face found |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {group.name} | {group.people} | {show(group.id_sim, COSINE)} | {show(group.face_found, PERCENT)} |"
            for group in evaluation.groups
        ]
    lines += ["", "| how often the judges are right on held-out people | |", "| --- | --- |"]
    lines += [
        f"| {name.replace('_', ' ')} | {100 * share:.1f} % of {count} |"
        for name, (share, count) in evaluation.judges.items()
    ]
    settings = ", ".join(f"{name} {value}" for name, value in evaluation.settings.items())
    return "\n".join([*lines, "", f"95 % intervals in brackets, number of pictures after them. {settings}.", ""])


def show(figure: Figure | None, unit: str) -> str:
    """A figure as a cell: "0.512 (0.490 to 0.533; 200)"."""
    if figure is None:
        return ""

    def number(value: float) -> str:
        return {
            PERCENT: f"{100 * value:.1f}",
            COSINE: f"{value:.3f}",
            DEGREES: f"{value:.1f}",
            DISTANCE: f"{value:.2f}",
            DECIBELS: f"{value:.1f}",
            COLOUR: f"{value:.1f}",
        }[unit]

    sign = {PERCENT: " %", DEGREES: "°", DECIBELS: " dB"}.get(unit, "")
    if figure.interval is None:
        return f"{number(figure.value)}{sign}"
    low, high = figure.interval
    return f"{number(figure.value)}{sign} ({number(low)} to {number(high)}; {figure.count})"


def _plain(figure: Figure) -> dict[str, object]:
    interval = None if figure.interval is None else [round(value, 4) for value in figure.interval]
    return {"value": round(figure.value, 4), "interval": interval, "count": figure.count}
