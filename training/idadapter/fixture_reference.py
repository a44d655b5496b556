"""Writes the PyTorch reference pipeline's portraits and token ids, for the tests of the TypeScript one.

python -m idadapter.fixture_reference --bundle ../models/default --photo ../tests/fixtures/face.png \
    --out ../tests/fixtures/reference
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .fixture_prompts import make_prompts
from .fixtures import write_json
from .loop import save_png
from .reference import ReferencePipeline
from .tokenizer import load_tokenizer

PHOTO = "photo.png"

BASE: dict[str, Any] = {
    "prompt": "a portrait photo, smiling",
    "class_noun": "woman",
    "negative_prompt": "",
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
    "identity_guidance_scale": None,
    "early_guidance_scale": None,
    "early_identity_guidance_scale": None,
    "early_guidance_until": 800.0,
    "guidance_rescale": 0.0,
    "identity_strength": 1.0,
    "pose_variation": 0.0,
    "scheduler": "dpmpp_2m",
    "seed": 11,
    "cache_interval": 1,
}
"""The request every case starts from; its fields are the API's."""

CASES: dict[str, dict[str, Any]] = {
    "dpmpp_2m": {},
    "ddim": {"scheduler": "ddim", "seed": 12, "prompt": "a pencil sketch"},
    "euler": {"scheduler": "euler", "seed": 13, "prompt": "Woman WITH glasses, facing   left!"},
    "euler_ancestral": {"scheduler": "euler_ancestral", "seed": 16, "num_inference_steps": 12},
    "euler_restart": {"scheduler": "euler_restart", "seed": 23, "num_inference_steps": 12},
    "euler_restart_cached": {"scheduler": "euler_restart", "seed": 24, "num_inference_steps": 14, "cache_interval": 3},
    "dpmpp_2m_sde": {"scheduler": "dpmpp_2m_sde", "seed": 17, "num_inference_steps": 12},
    "unipc": {"scheduler": "unipc", "seed": 18, "num_inference_steps": 12},
    "no_guidance": {"guidance_scale": 1.0, "seed": 14},
    "identity_guidance": {"identity_guidance_scale": 1.5, "guidance_rescale": 0.7, "seed": 19},
    "early_guidance": {
        "guidance_scale": 1.0,
        "early_guidance_scale": 4.0,
        "early_identity_guidance_scale": 1.0,
        "early_guidance_until": 700.0,
        "seed": 21,
        "scheduler": "unipc",
        "num_inference_steps": 12,
    },
    "early_guidance_cached": {
        "guidance_scale": 2.0,
        "early_guidance_scale": 4.0,
        "early_identity_guidance_scale": 1.0,
        "cache_interval": 2,
        "seed": 22,
        "scheduler": "unipc",
        "num_inference_steps": 12,
    },
    "turned_head": {"pose_variation": 20.0, "seed": 25},
    "turned_left": {"prompt": "a portrait photo, facing left", "seed": 26, "num_inference_steps": 12},
    "expression": {"prompt": "is Sad", "seed": 27, "num_inference_steps": 12},
    "hat": {"prompt": "in a Hat", "seed": 28, "num_inference_steps": 12},
    "half_strength": {"identity_strength": 0.5, "seed": 15, "class_noun": "person"},
    "negative_prompt": {"negative_prompt": "wearing a hat, black and white", "seed": 4294967295},
    "cached_steps": {"cache_interval": 3, "seed": 20, "scheduler": "unipc", "num_inference_steps": 12},
    "unusual_words": {"prompt": "sks café 🙂 naïve ŁÓDŹ", "guidance_scale": 5.5, "num_inference_steps": 7},
}
"""What each case changes."""


def read_photo(path: Path) -> np.ndarray:
    """A photo as [H, W, 3] uint8 RGB, upright.

    Raises:
        ValueError: the file is missing or no picture.
    """
    photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if photo is None:
        raise ValueError(f"{path} is not a picture that can be read")
    return cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)


def write_cases(bundle: Path, photo: np.ndarray, out: Path, names: list[str]) -> None:
    """Writes `photo.png`, and `case_NAME.json` with `expected_NAME.png` for each name; other files stay.

    Args:
        bundle: whose weights make the portraits.
        photo: [H, W, 3] uint8 RGB with one face.
        out: folder; made if missing.
        names: of `CASES`.

    Raises:
        ValueError: the photo shows no face.
    """
    pipeline = ReferencePipeline(bundle)
    save_png(out / PHOTO, photo)
    for name in names:
        request = {**BASE, **CASES[name]}
        [picture] = pipeline.generate(photo, **request)
        save_png(out / f"expected_{name}.png", picture)
        case = {"photo": PHOTO, **request, "expected": f"expected_{name}.png"}
        (out / f"case_{name}.json").write_text(json.dumps(case, indent=2, ensure_ascii=False) + "\n")
        clipped = np.isin(picture, (0, 255)).mean()
        print(f"{name}: mean {picture.mean():.0f}, deviation {picture.std():.0f}, clipped {clipped:.0%}", flush=True)


def write_token_ids(bundle: Path, out: Path, count: int = 500) -> None:
    """Writes `prompts.json.gz`: odd prompts with the ids that transformers' CLIPTokenizer gives them."""
    tokenizer = load_tokenizer(bundle / "tokenizer")
    prompts = [{"text": text, "ids": tokenizer(text)["input_ids"]} for text in make_prompts(count)]
    write_json(out / "prompts.json.gz", prompts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--photo", type=Path, required=True, help="a picture with one face; never a stranger's")
    parser.add_argument("--out", type=Path, required=True, help="the folder tests/fixtures/reference")
    parser.add_argument("--case", choices=CASES, action="append", help="only these; all by default")
    arguments = parser.parse_args()
    write_cases(arguments.bundle, read_photo(arguments.photo), arguments.out, arguments.case or list(CASES))
    write_token_ids(arguments.bundle, arguments.out)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
