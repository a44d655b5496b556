"""Judges what the running service serves, on held-out people, with judges it never saw.

`python -m idadapter.evaluate --people 100` starts the service on the embedded bundle and prints a table and one JSON
object. The prompt is the class noun alone, as the paper measures ID-Sim.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from .ceilings import judge
from .data.alignment import align_face
from .data.facts import Facts, read_facts
from .data.records import FaceRecord, data_folder, held_out_identities, read_photos, read_records
from .data.templates import PORTRAIT_TEMPLATE
from .judges import FaceFinder, FaceJudge, kernel_distance
from .loop import save_png
from .service import Portrait, RefusedError, Service, running_service

REFUSALS_THAT_ARE_FINE = {"multiple_faces", "face_not_found", "face_too_small"}
"""A photo with two people, or none the service sees, is no reference; the next person's turn."""


def held_out_people(records: list[FaceRecord], seed: int = 0) -> list[int]:
    """One photo of each held-out person, in a seeded order: indices into `records`."""
    held_out = held_out_identities(records)
    first: dict[str, int] = {}
    for index, record in enumerate(records):
        if record.identity in held_out:
            first.setdefault(record.identity, index)
    rows = [first[identity] for identity in sorted(first)]
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]


def make_portraits(
    service: Service, records: list[FaceRecord], facts: list[Facts], people: int, prompt: str = "{}", **fields: object
) -> list[tuple[int, np.ndarray, Portrait]]:
    """One portrait each of so many held-out people.

    Args:
        service: what is judged.
        records: every photo.
        facts: of every photo.
        people: how many.
        prompt: `{}` becomes the class noun.
        fields: further fields of a generation.

    Returns:
        index of the reference, the reference photo [h, w, 3] uint8, and the portrait.
    """
    order = held_out_people(records)
    wanted = set(order)
    photos = {index: photo for index, photo in read_photos(data_folder(), records) if index in wanted}
    made: list[tuple[int, np.ndarray, Portrait]] = []
    for seed, row in enumerate(order):
        if len(made) == people:
            break
        noun = facts[row].noun
        try:
            portrait = service.generate(photos[row], prompt.format(noun), noun, seed=seed, **fields)[0]
        except RefusedError as refused:
            if refused.code not in REFUSALS_THAT_ARE_FINE:
                raise
            continue
        made.append((row, photos[row], portrait))
    return made


def interval(values: np.ndarray) -> list[float]:
    """The mean's 95 % confidence interval by bootstrap, seeded."""
    random = np.random.default_rng(0)
    means = random.choice(values, (2000, len(values))).mean(1)
    return [round(float(x), 3) for x in np.quantile(means, [0.025, 0.975])]


def contact_sheet(references: np.ndarray, portraits: np.ndarray, columns: int = 8) -> np.ndarray:
    """References with their portraits below them, `columns` a row: [H, W, 3] uint8."""
    rows = []
    for start in range(0, len(references) - columns + 1, columns):
        for pictures in (references, portraits):
            rows.append(np.concatenate(list(pictures[start : start + columns]), axis=1))
    return np.concatenate(rows, axis=0)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="default: the embedded one")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--sheet", type=Path, help="contact sheet of the first 32 (never commit it)")
    arguments = parser.parse_args()
    records = read_records(data_folder())
    facts = read_facts(records)
    fields = {} if arguments.guidance_scale is None else {"guidance_scale": arguments.guidance_scale}
    with running_service(arguments.bundle) as service:
        made = make_portraits(service, records, facts, arguments.people, **fields)
    evaluators = data_folder() / "evaluators"
    finder, recognizer = FaceFinder(evaluators), FaceJudge(evaluators)
    references = np.stack([align_face(photo, records[row].landmarks, PORTRAIT_TEMPLATE, 128) for row, photo, _ in made])
    portraits = np.stack([portrait.picture for _, _, portrait in made])
    found_real, real, real_features = judge(references, finder, recognizer)
    found, fake, fake_features = judge(portraits, finder, recognizer)
    both = found & found_real
    cosine = real[both[found_real]] @ fake[both[found]].T
    own = np.diag(cosine)
    strangers = cosine[~np.eye(len(cosine), dtype=bool)]
    figures = {
        "people": len(made),
        "face_found": round(float(found.mean()), 3),
        "id_sim": round(float(own.mean()), 3),
        "id_sim_interval": interval(own),
        "id_sim_strangers": round(float(strangers.mean()), 3),
        "top1": round(float((cosine.argmax(0) == np.arange(len(cosine))).mean()), 3),
        "realism": round(kernel_distance(real_features, fake_features), 2),
    }
    for name, value in figures.items():
        print(f"{name:18} {value}")
    print(json.dumps(figures))
    if arguments.sheet is not None:
        save_png(arguments.sheet, contact_sheet(references[:32], portraits[:32]))


if __name__ == "__main__":
    main()
