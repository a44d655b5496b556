"""A data folder of drawn faces, in the shape of the real one, so that tests need no photos of people."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from pathlib import Path

import cv2
import numpy as np

SIDE = 192
POINTS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
ATTRIBUTES = ("Male", "Smiling", "Eyeglasses", "Mouth_Slightly_Open", "No_Beard", "Black_Hair", "Young")
PEOPLE = 22
"""Of these the first and the twenty-first are held out."""

PHOTOS_EACH = (1, 4, 2)
"""How many photos person k has: entry k modulo 3."""


def draw_face(person: int, photo: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """A cartoon of a face: colours and proportions are the person's, place and expression the photo's.

    Returns:
        [192, 192, 3] uint8 RGB, the five landmarks [5, 2], and attributes, 0 or 1.
    """
    own = np.random.default_rng([person, 0])
    here = np.random.default_rng([person, 1, photo])
    skin, hair, eyes, background = (tuple(int(v) for v in own.integers(30, 226, 3)) for _ in range(4))
    smiling, glasses = bool(here.random() < 0.5), bool(own.random() < 0.4)
    x, y = here.normal(SIDE / 2, 4, 2)
    half = float(own.uniform(18, 24))
    turn = float(here.uniform(-0.25, 0.25)) * 2 * half
    points = np.array(
        [
            [x - half, y - 12],
            [x + half, y - 12],
            [x + turn, y + 10],
            [x - half * 0.8, y + 30],
            [x + half * 0.8, y + 30],
        ]
    )
    image = np.full((SIDE, SIDE, 3), background, np.uint8)
    cv2.ellipse(image, (int(x), int(y - 8)), (int(half * 2.4), int(half * 3.2)), 0, 0, 360, hair, -1)
    cv2.ellipse(image, (int(x), int(y + 4)), (int(half * 2), int(half * 2.7)), 0, 0, 360, skin, -1)
    for px, py in points[:2].astype(int):
        cv2.circle(image, (int(px), int(py)), 7, (255, 255, 255), -1)
        cv2.circle(image, (int(px), int(py)), 4, eyes, -1)
        if glasses:
            cv2.circle(image, (int(px), int(py)), 12, (20, 20, 20), 2)
    cv2.line(image, (int(x), int(y - 6)), (int(points[2, 0]), int(points[2, 1])), (90, 60, 50), 3)
    mouth = points[3:].mean(0).astype(int)
    arc = (0, 180) if smiling else (180, 360)
    cv2.ellipse(image, (int(mouth[0]), int(mouth[1])), (int(half * 0.8), 8), 0, *arc, (150, 30, 40), 4)
    image = np.clip(image + here.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    values = dict.fromkeys(ATTRIBUTES, 0.0)
    values |= {"Male": float(person % 2), "Smiling": float(smiling), "Eyeglasses": float(glasses)}
    values |= {"No_Beard": float(person % 3 > 0), "Black_Hair": float(sum(hair) < 250), "Young": 1.0}
    return image, points, values


def write_data_folder(folder: Path, people: int = PEOPLE) -> None:
    """Writes `faces/faces.csv.gz` and two archives; half of the people come as LFW's, half as CelebA's."""
    faces = folder / "faces"
    faces.mkdir(parents=True)
    columns = [f"{point}_{axis}" for point in POINTS for axis in "xy"]
    rows = []
    with tarfile.open(faces / "lfw.tar", "w") as lfw, tarfile.open(faces / "celeba.tar", "w") as celeba:
        for person in range(people):
            archive, name = (lfw, "lfw") if person % 2 else (celeba, "celeba")
            for photo in range(PHOTOS_EACH[person % 3]):
                image, points, values = draw_face(person, photo)
                file = f"{name}/drawn_{person:02d}_{photo}.png"
                encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
                member = tarfile.TarInfo(file)
                member.size = len(encoded)
                archive.addfile(member, io.BytesIO(encoded))
                labels = {"gender": "Man", "age": "30", "emotion": "happy"} if name == "lfw" else {}
                row = {"file": file, "identity": f"{name}-{person:02d}", **values, **labels}
                rows.append(row | dict(zip(columns, points.ravel().round(1), strict=True)))
    with gzip.open(faces / "faces.csv.gz", "wt", newline="") as handle:
        writer = csv.DictWriter(handle, ["file", "identity", *columns, *ATTRIBUTES, "gender", "age", "emotion"])
        writer.writeheader()
        writer.writerows(rows)
