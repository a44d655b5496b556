"""What real photos score, and real photos through the autoencoder alone: no adapter beats these.

`python -m idadapter.ceilings --parts ../runs/mini/parts --run ../runs/mini` (or a bundle as `--parts`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from .data.portraits import open_portraits
from .data.records import data_folder
from .data.vision_crops import to_tensor
from .judges import FaceFinder, FaceJudge, kernel_distance
from .models.autoencoder import decode, encode
from .parts import read_vae
from .sampling import to_pictures


def judge(pictures: np.ndarray, finder: FaceFinder, recognizer: FaceJudge) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each picture [n, h, w, 3] shows a face [n], and embeddings and features of those that do."""
    found, embeddings, features = [], [], []
    for picture in pictures:
        landmarks = finder.landmarks(picture)
        found.append(landmarks is not None)
        if landmarks is not None:
            embedding, numbers = recognizer.run(picture, landmarks)
            embeddings.append(embedding)
            features.append(numbers)
    return np.array(found), np.array(embeddings), np.array(features)


@torch.no_grad()
def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    portraits = open_portraits(arguments.cache)
    evaluators = data_folder() / "evaluators"
    finder, recognizer = FaceFinder(evaluators), FaceJudge(evaluators)
    random = np.random.default_rng(0)
    held_out = portraits.photos[random.permutation(portraits.held_out)[: arguments.count]]
    reference = portraits.photos[np.sort(random.choice(portraits.train, 600, replace=False))]
    vae = read_vae(arguments.parts)
    decoded = np.concatenate(
        [to_pictures(decode(vae, encode(vae, to_tensor(part)))) for part in np.array_split(held_out, 16)]
    )
    found, own, features = judge(held_out, finder, recognizer)
    found_decoded, again, features_decoded = judge(decoded, finder, recognizer)
    _, _, base = judge(reference, finder, recognizer)
    both = found & found_decoded
    cosine = (own[both[found]] * again[both[found_decoded]]).sum(1)
    error = (held_out.astype(float) - decoded.astype(float)) / 255
    print(
        json.dumps(
            {
                "photos": len(held_out),
                "face_found": round(float(found.mean()), 4),
                "face_found_decoded": round(float(found_decoded.mean()), 4),
                "id_sim_decoded": round(float(cosine.mean()), 4),
                "psnr_decoded": round(float((-10 * np.log10((error**2).mean((1, 2, 3)))).mean()), 2),
                "realism_photos": round(kernel_distance(base, features), 3),
                "realism_decoded": round(kernel_distance(base, features_decoded), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
