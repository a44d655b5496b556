"""What of a portrait its reference's tokens tell: what no token tells, no adapter can draw.

`python -m idadapter.readout --parts ../models/default` fits linear maps from the image encoder's features, and from
E_r, to the latents of the same photo, on training photos, and prints for held-out ones what the maps leave untold and
whose face an independent recogniser sees in what they tell. An adapter's heads look at the place they draw, so a
patch's own token counts; "3 x 3" shows what its neighbours know beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .data.facts import read_facts
from .data.records import data_folder, held_out_identities, read_records
from .data.templates import PORTRAIT_SIZE, portrait_template
from .data.vision_crops import crop, to_tensor
from .evaluation.people import open_photos, training_photos
from .judges.face_judge import FaceJudge
from .models.autoencoder import decode, encode
from .models.clip import PatchDecoder, image_features
from .one_step import split
from .parts import read_image_encoder, read_mixed_features, read_vae
from .sampling import to_pictures

Embed = Callable[[np.ndarray], np.ndarray]
"""Portraits [n, s, s, 3] uint8 to unit-length embeddings [n, d]."""


@dataclass(frozen=True)
class Told:
    """What linear maps tell of held-out latents.

    Attributes:
        tokens: what the map takes.
        untold: squared error of the latents, over their variance.
        fine: the same of what averages over 2 x 2 leave out.
        similarity: cosine of the recogniser between the photo and what is decoded from what the map tells.
    """

    tokens: str
    untold: float
    fine: float
    similarity: float


def with_neighbours(tokens: Tensor) -> Tensor:
    """Tokens of a square grid [n, P, d] with those of the eight places around: [n, P, 9 d]; zeros outside."""
    side = int(tokens.shape[1] ** 0.5)
    grid = tokens.transpose(1, 2).unflatten(2, (side, side))
    return functional.unfold(grid, 3, padding=1).transpose(1, 2)


@torch.no_grad()
def readout(parts: Path, training: np.ndarray, held_out: np.ndarray, embed: Embed) -> list[Told]:
    """Fits the maps on some portraits and judges them by others.

    Args:
        parts: a bundle, or a run's parts.
        training: [n, s, s, 3] uint8.
        held_out: [m, s, s, 3] uint8, of other people.
        embed: a recogniser the model has nothing to do with.
    """
    vae, encoder, mixed_features = read_vae(parts), read_image_encoder(parts), read_mixed_features(parts)
    size = encoder.config.image_size
    width = mixed_features.config["face_width"]

    def look(portraits: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        latents, features = [], []
        for start in range(0, len(portraits), 64):
            some = portraits[start : start + 64]
            latents.append(encode(vae, to_tensor(some)))
            features.append(image_features(encoder, to_tensor([crop(portrait, size) for portrait in some])))
        patches, classes = (torch.cat(found) for found in zip(*features, strict=True))
        nobody = patches.new_zeros(len(patches), 1, width)
        tokens, _ = mixed_features(patches[:, None], classes[:, None], nobody)
        tokens = tokens[:, mixed_features.face_tokens :]
        shown = {"f_v": patches, "f_v, 3 x 3": with_neighbours(patches), "E_r": tokens}
        return torch.cat(latents), shown

    (seen, seen_tokens), (wanted, tokens) = look(training), look(held_out)
    variance = (wanted - seen.mean(0)).square().mean()
    real = embed(held_out)

    def judge(name: str, told: Tensor) -> Told:
        error = told - wanted
        similarity = float((embed(to_pictures(decode(vae, told))) * real).sum(1).mean())
        return Told(name, float(error.square().mean() / variance), split(error)[1] / split(wanted)[1], similarity)

    rows = [judge("the latents themselves", wanted)]
    for name, inputs in seen_tokens.items():
        side = int(inputs.shape[1] ** 0.5)
        decoder = PatchDecoder(inputs.shape[-1], seen.shape[-1] // side, seen.shape[1])
        decoder.fit(inputs, seen)
        rows.append(judge(name, decoder(tokens[name])))
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, required=True, help="a bundle, or a run's parts")
    parser.add_argument("--photos", type=int, default=1500, help="training photos to fit the maps to")
    parser.add_argument("--held-out", type=int, default=200, help="photos of held-out people to judge by")
    arguments = parser.parse_args()
    data = data_folder()
    records = read_records(data)
    unseen_people = held_out_identities(records)
    rows = [index for index, record in enumerate(records) if record.identity in unseen_people]
    held_out = np.random.default_rng(0).permutation(rows)[: arguments.held_out].tolist()
    training = training_photos(records, arguments.photos)
    photos = open_photos(data, records, read_facts(records), sorted([*training, *held_out]))
    first, second = (
        np.stack([photos[row].portrait(PORTRAIT_SIZE) for row in indices]) for indices in (training, held_out)
    )
    judge, template = FaceJudge(data / "evaluators"), portrait_template(PORTRAIT_SIZE).astype(np.float32)
    told = readout(arguments.parts, first, second, lambda shown: np.stack([judge.run(x, template)[0] for x in shown]))
    print("| a linear map of | untold | of what is fine | ID-Sim |\n| --- | --- | --- | --- |")
    for row in told:
        print(f"| {row.tokens} | {row.untold:.3f} | {row.fine:.3f} | {row.similarity:.3f} |")


if __name__ == "__main__":
    main()
