"""What several photos of a person give that one does not: judged by a photo that the service never got.

`python -m idadapter.evaluate_references` sends one, two and four different photos of each held-out person who has five,
and compares the portraits with the fifth photo (is it the person?) and with the first (is it that photo again?). The
paper mixes N photos so that what they share, the person, outweighs what they do not, expression and view.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .data.facts import read_facts
from .data.records import data_folder, read_records
from .data.templates import PORTRAIT_SIZE
from .evaluation.figures import Figure, diversity_figures, mean_figure
from .evaluation.people import Photo, held_out_people, open_photos
from .evaluation.report import COSINE, DEGREES, PERCENT, show
from .judges.panel import Face, Panel, Verdict
from .service import DEFAULT_BUNDLE, REPOSITORY, Service, running_service

PHOTOS = (1, 2, 4)
"""How many different photos are sent."""

FORMS = ("{}", "{} is smiling")
"""Prompts; `{}` is the class noun."""

SAME_PERSON_FROM = 0.27
"""Cosine to the mean of a person's other photos; three in a thousand photos of strangers reach it."""


@dataclass(frozen=True)
class Portrayed:
    """A portrait, and the photos it is compared with.

    Attributes:
        verdict: of the portrait.
        first: the face of the first photo that was sent.
        unseen: the face of the photo that was not.
    """

    verdict: Verdict
    first: Face
    unseen: Face


def reference_figures(portraits: list[Portrayed]) -> dict[str, Figure | None]:
    """ID-Sim with the photo not sent and with the first that was, and how far the portraits are from the latter."""
    faces = [(one.verdict.face, one) for one in portraits if one.verdict.face is not None]
    return {
        "id_sim_unseen": mean_figure([float(face.embedding @ one.unseen.embedding) for face, one in faces]),
        "id_sim_first": mean_figure([float(face.embedding @ one.first.embedding) for face, one in faces]),
        **diversity_figures([(one.first, one.verdict) for one in portraits]),
    }


Table = dict[str, dict[int, dict[str, Figure | None]]]
"""Figures by prompt and number of photos."""

ROWS = (
    ("id_sim_unseen", "ID-Sim with a photo not sent", COSINE),
    ("id_sim_first", "ID-Sim with the first photo sent", COSINE),
    ("expr_div", "another expression than that photo's", PERCENT),
    ("pose_div_pitch", "difference of pitch to it", DEGREES),
    ("pose_div_yaw", "difference of yaw to it", DEGREES),
)
"""Key, name and unit of every figure, in the table's order."""


def one_person(faces: list[Face]) -> bool:
    """Whether each face is like the others' mean: one photo in ten of CelebA shows somebody else."""
    embeddings = np.stack([face.embedding for face in faces])
    others = embeddings.sum(0) - embeddings
    cosines = (embeddings * others).sum(1) / np.linalg.norm(others, axis=1)
    return bool((cosines >= SAME_PERSON_FROM).all())


def usable_people(
    service: Service, panel: Panel, people: list[list[Photo]], count: int
) -> list[tuple[list[Photo], Face, Face]]:
    """Photos to send, the first one's face and the unseen one's, of people whose photos service and judges can use.

    People with a photo of somebody else are left out.

    Args:
        service: what is judged.
        panel: the judges.
        people: photos of each, the last one not to be sent.
        count: how many people are enough.
    """
    usable: list[tuple[list[Photo], Face, Face]] = []
    for photos in people:
        if len(usable) == count:
            break
        faces = [panel.judge(photo.portrait(PORTRAIT_SIZE)).face for photo in photos]
        first, unseen = faces[0], faces[-1]
        if first is None or unseen is None or not one_person([face for face in faces if face is not None]):
            continue
        sent = photos[:-1]
        if not any(service.refusal_of_photo(photo.picture) for photo in sent):
            usable.append((sent, first, unseen))
    return usable


def evaluate_references(service: Service, cache: Path, people: int) -> tuple[Table, int]:
    """The figures by prompt and number of photos, and of how many people.

    Args:
        service: what is judged.
        cache: folder of derived data.
        people: how many at most.
    """
    data = data_folder()
    records = read_records(data)
    panel = Panel(data, cache, records)
    most = max(PHOTOS)
    rows = [rows[: most + 1] for rows in held_out_people(records) if len(rows) > most]
    photos = open_photos(data, records, read_facts(records), sorted(row for some in rows for row in some))
    usable = usable_people(service, panel, [[photos[row] for row in some] for some in rows], people)
    table: Table = {}
    for form in FORMS:
        for count in PHOTOS:
            portrayed = []
            for person, (sent, first, unseen) in enumerate(usable):
                noun = sent[0].facts.noun
                pictures = [photo.picture for photo in sent[:count]]
                prompt, seed = form.format(noun), 500 + person
                # What varies is to come from the photos.
                [portrait] = service.generate(pictures, prompt, noun, seed=seed, pose_variation=0)
                portrayed.append(Portrayed(panel.judge(portrait.picture), first, unseen))
            table.setdefault(form.format("noun"), {})[count] = reference_figures(portrayed)
    return table, len(usable)


def to_markdown(table: Table, people: int, asked: int) -> str:
    """A row a figure and prompt, a column a number of photos; then how many people, if fewer than asked for."""
    lines = [
        "| prompt | figure | " + " | ".join(f"{count} photo{'s' * (count > 1)}" for count in PHOTOS) + " |",
        "| --- | --- |" + " --- |" * len(PHOTOS),
    ]
    for prompt, columns in table.items():
        for key, label, unit in ROWS:
            cells = " | ".join(show(columns[count][key], unit) for count in PHOTOS)
            lines.append(f"| {prompt} | {label} | {cells} |")
    if people < asked:
        lines += ["", f"{people} held-out people, not {asked}, have {max(PHOTOS) + 1} photos that can be used."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the table, and writes it."""
    parser = argparse.ArgumentParser(
        prog="idadapter.evaluate_references",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--bundle", type=Path, help="what to serve; default: the embedded bundle")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / "runs" / "cache", help="derived data (the judges)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "out" / "evaluation", help="references.json and .md")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with running_service(arguments.bundle or DEFAULT_BUNDLE) as service:
        table, people = evaluate_references(service, arguments.cache, arguments.people)
    plain = {
        prompt: {
            count: {key: figure and asdict(figure) for key, figure in figures.items()}
            for count, figures in columns.items()
        }
        for prompt, columns in table.items()
    }
    (arguments.out / "references.json").write_text(json.dumps(plain, indent=2) + "\n")
    markdown = to_markdown(table, people, arguments.people)
    (arguments.out / "references.md").write_text(markdown)
    print(markdown)


if __name__ == "__main__":
    main()
