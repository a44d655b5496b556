"""Writes aligned faces of a made-up photo, and turned heads, for the tests of the TypeScript warps.

python -m idadapter.fixture_alignment --out ../tests/fixtures
"""

import argparse
import base64
import math
from pathlib import Path

import numpy as np

from idadapter.data.alignment import align_face
from idadapter.data.templates import portrait_template
from idadapter.data.turned_heads import head_towards, turn_of_seed, turned_head, varied_turn, yaw_angle
from idadapter.fixtures import write_json

TEMPLATE = np.array([[12.7, 12.4], [26.8, 12.4], [19.7, 20.4], [13.4, 27.5], [26.0, 27.5]])
SIZE = 40


def make_photo(width: int, height: int) -> np.ndarray:
    """A photo [height, width, 3] of sharp detail: byte (3 x^2 + 7 y (c + 1) + x y) mod 256."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return ((3 * x * x + 7 * y * (c + 1) + x * y) % 256).astype(np.uint8)


def make_cases() -> list[dict]:
    """Faces small and large, straight and turned, inside and over the edge."""
    generator = np.random.default_rng(5)
    cases = []
    for width, height, scale, degrees, center in (
        (131, 97, 0.8, 0, (60, 50)),
        (131, 97, 1.0, 25, (20, 20)),
        (200, 150, 1.9, -10, (100, 70)),
        (201, 151, 2.6, 8, (110, 70)),
        (641, 479, 7.3, 3, (300, 200)),
        (641, 479, 12.0, -40, (600, 440)),
    ):
        turn = np.radians(degrees)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = (TEMPLATE - TEMPLATE.mean(0)) @ rotation.T * scale + center
        points += generator.normal(0, 0.5, (5, 2))
        points = points.round(3)
        face = align_face(make_photo(width, height), points, TEMPLATE, SIZE)
        cases.append(
            {
                "width": width,
                "height": height,
                "points": points.tolist(),
                "face": base64.b64encode(face.tobytes()).decode(),
            }
        )
    return cases


def make_turns() -> list[dict]:
    """Heads that look ahead and aside, turned to both sides, too far, mirrored, and in squares that no grid fits."""
    generator = np.random.default_rng(7)
    cases = []
    turns = [(64, 16, 0, "by", 20), (64, 0, 4, "by", -30), (61, 15, -5, "by", 12.5), (62, 0, 9, "by", 25)]
    turns += [
        (63, 3, -22, "by", -9),
        (64, 16, 5, "to", 20),
        (64, 16, 12, "to", -20),
        (61, 9, -11, "to", 20),
        (64, 0, -3, "to", 20),
    ]
    for size, margin, offset, kind, degrees in turns:
        landmarks = portrait_template(size) + generator.normal(0, 0.4, (5, 2))
        landmarks[2, 0] += offset * size / 128
        landmarks = landmarks.round(3)
        turn = math.radians(degrees)
        photo = make_photo(size + 2 * margin, size + 2 * margin)
        face = (
            head_towards(photo, landmarks, turn, margin)
            if kind == "to"
            else turned_head(photo, landmarks, varied_turn(yaw_angle(landmarks), turn), margin)
        )
        cases.append(
            {
                "size": size,
                "margin": margin,
                "template": portrait_template(size).tolist(),
                "landmarks": landmarks.tolist(),
                "turn": {kind: turn},
                "face": base64.b64encode(face.tobytes()).decode(),
            }
        )
    return cases


def make_seeds() -> list[dict]:
    """What seeds small and large turn by."""
    return [{"seed": seed, "turn": turn_of_seed(seed, 20.0)} for seed in (0, 1, 2, 3, 11, 4242, 2**31, 2**32 - 1)]


def main() -> None:
    """Writes ``alignment/faces.json.gz`` and ``alignment/turned_heads.json.gz``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder tests/fixtures")
    out = parser.parse_args().out
    write_json(
        out / "alignment" / "faces.json.gz",
        {"size": SIZE, "template": TEMPLATE.tolist(), "cases": make_cases()},
    )
    write_json(out / "alignment" / "turned_heads.json.gz", {"cases": make_turns(), "seeds": make_seeds()})


if __name__ == "__main__":
    main()
