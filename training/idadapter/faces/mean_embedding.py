"""Computes the mean raw embedding of the training faces: ``python -m idadapter.faces.mean_embedding``."""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from idadapter.data.alignment import align_face
from idadapter.data.records import FaceRecord, data_folder, held_out_identities, read_photos, read_records
from idadapter.faces.recognizer import MEAN_EMBEDDING_FILE, TEMPLATE, FaceRecognizer


def recognizer_faces(data: Path, records: list[FaceRecord]) -> Iterable[np.ndarray]:
    """The aligned faces [150, 150, 3] uint8 of the records, in archive order."""
    for index, photo in read_photos(data, records):
        yield align_face(photo, records[index].landmarks, TEMPLATE, FaceRecognizer.input_size)


def as_batch(faces: Iterable[np.ndarray]) -> Tensor:
    """Bytes [n] of [h, w, 3] as the network's input [n, 3, h, w] in [0, 1]."""
    return torch.from_numpy(np.stack(list(faces))).permute(0, 3, 1, 2).float() / 255


@torch.inference_mode()
def mean_embedding(faces: Iterable[np.ndarray]) -> np.ndarray:
    """The mean [128] of the network's outputs before subtraction and normalisation, over aligned ``faces``."""
    recognizer = FaceRecognizer.from_package()
    total, count = torch.zeros(FaceRecognizer.embedding_size, dtype=torch.float64), 0
    remaining = iter(faces)
    while chunk := list(islice(remaining, 64)):
        total += recognizer.raw_embedding(recognizer.features(as_batch(chunk))).double().sum(0)
        count += len(chunk)
    return (total / count).numpy()


def main() -> None:
    """Writes ``MEAN_EMBEDDING_FILE`` from all faces of the training identities in the data folder."""
    data = data_folder()
    records = read_records(data)
    held_out = held_out_identities(records)
    training = [record for record in records if record.identity not in held_out]
    mean = mean_embedding(recognizer_faces(data, training))
    MEAN_EMBEDDING_FILE.write_text(json.dumps([round(float(value), 7) for value in mean]) + "\n")
    print(f"mean of {len(training)} faces of {len(records)}; length {np.linalg.norm(mean):.4f}")


if __name__ == "__main__":
    main()
