"""Glasses, hats and art renditions: linear classifiers on MobileFaceNet's middle features, trained on the training
people's labels and tested on the held-out ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from ..data import renditions
from ..data.alignment import align_face
from ..data.facts import read_facts
from ..data.records import FaceRecord, held_out_identities, read_photos, training_identities
from ..data.renditions import RENDITIONS, render
from ..data.templates import PORTRAIT_SIZE, PORTRAIT_TEMPLATE
from .face_judge import FaceJudge

STYLES = ("photo", *RENDITIONS)
"""What a portrait can look like: a photo, or one of the renditions training shows."""

WEIGHT_DECAY = 0.05
LFW_PHOTOS, RENDITION_PHOTOS = 3000, 1500
"""How many of LFW's training photos are learnt from (all of CelebA's are), and of how many photos the renditions."""

TEST_RENDITIONS = 400
VERSION = 2
"""Changes with anything that changes the classifiers and is not in their key."""


@dataclass(frozen=True)
class LinearClassifier:
    """Softmax regression on standardised features.

    Attributes:
        mean: [d], subtracted.
        scale: [d], divided by.
        weight: [k, d].
        bias: [k].
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """[n, d] -> [n, k]."""
        logits = ((features - self.mean) / self.scale) @ self.weight.T + self.bias
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)


def fit(features: np.ndarray, labels: np.ndarray, classes: int) -> LinearClassifier:
    """Fits the classifier by L-BFGS from zero, every class weighing the same.

    Args:
        features: [n, d].
        labels: [n] in 0..classes-1, each of which occurs.
        classes: k.
    """
    mean, scale = features.mean(0), features.std(0) + 1e-3
    x, y = torch.from_numpy((features - mean) / scale), torch.from_numpy(labels)
    share = torch.tensor(1 / np.bincount(labels, minlength=classes), dtype=torch.float32)
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(x @ weight.T + bias, y, weight=share) + WEIGHT_DECAY * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return LinearClassifier(mean, scale, weight.detach().numpy(), bias.detach().numpy())


@dataclass(frozen=True)
class AttributeJudge:
    """The three classifiers, and how often they were right on held-out people.

    Attributes:
        glasses, hat: two classes, without and with.
        style: the classes `STYLES`.
        accuracy: what was tested, to the share that was right and the number of pictures.
    """

    glasses: LinearClassifier
    hat: LinearClassifier
    style: LinearClassifier
    accuracy: dict[str, tuple[float, int]]


def attribute_judge_key(data: Path, records: list[FaceRecord]) -> str:
    """Names a judge by what it is trained on: photos and their facts, who trains, the renditions' code, the recogniser.

    Args:
        data: folder that holds `evaluators/`.
        records: every photo.
    """
    training, held_out = training_identities(records), held_out_identities(records)
    rows = [
        [r.file, r.landmarks.tolist(), r.identity in training, r.identity in held_out, known.glasses, known.hat]
        for r, known in zip(records, read_facts(records), strict=True)
    ]
    digest = hashlib.sha256(json.dumps([VERSION, PORTRAIT_TEMPLATE.tolist(), rows]).encode())
    for file in (Path(renditions.__file__), data / "evaluators" / "mobilefacenet.onnx"):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def open_attribute_judge(cache: Path, data: Path, records: list[FaceRecord], judge: FaceJudge) -> AttributeJudge:
    """Opens the classifiers, training them on first use (two minutes).

    Args:
        cache: folder of derived data.
        data: folder that holds `faces/` and `evaluators/`.
        records: every photo.
        judge: makes the features.
    """
    path = cache / f"attribute-judge-{attribute_judge_key(data, records)}.npz"
    if not path.exists():
        _write(path, train_attribute_judge(data, records, judge.portrait_features))
    stored = np.load(path)
    classifiers = {
        name: LinearClassifier(*(stored[f"{name}_{field}"] for field in ("mean", "scale", "weight", "bias")))
        for name in ("glasses", "hat", "style")
    }
    accuracy = {name: (share, count) for name, (share, count) in json.loads(str(stored["accuracy"])).items()}
    return AttributeJudge(**classifiers, accuracy=accuracy)


def _write(path: Path, judge: AttributeJudge) -> None:
    arrays = {
        f"{name}_{field}": value
        for name in ("glasses", "hat", "style")
        for field, value in vars(getattr(judge, name)).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays, accuracy=json.dumps(judge.accuracy))
    partial.rename(path)


def train_attribute_judge(
    data: Path, records: list[FaceRecord], features: Callable[[np.ndarray], np.ndarray], seed: int = 0
) -> AttributeJudge:
    """Trains on training people and tests on held-out ones.

    Args:
        data: folder that holds `faces/`.
        records: every photo.
        features: of one portrait [128, 128, 3] uint8, [d].
        seed: of the choice of photos.
    """
    random, facts, held_out = np.random.default_rng(seed), read_facts(records), held_out_identities(records)
    is_lfw = np.array([record.file.startswith("lfw") for record in records])
    is_held_out = np.array([record.identity in held_out for record in records])
    lfw = random.permutation(np.flatnonzero(is_lfw & ~is_held_out))[:LFW_PHOTOS]
    train, test = np.union1d(np.flatnonzero(~is_lfw & ~is_held_out), lfw), np.flatnonzero(is_held_out)
    drawn_train, drawn_test = random.permutation(train)[:RENDITION_PHOTOS], random.permutation(test)[:TEST_RENDITIONS]
    styles = dict(zip(np.union1d(train, test), random.integers(1, len(STYLES), len(train) + len(test)), strict=True))
    # Held-out people by another name leave after the choices, so that the other photos stay the same.
    is_training = np.isin([record.identity for record in records], list(training_identities(records)))
    train, drawn_train = train[is_training[train]], drawn_train[is_training[drawn_train]]
    chosen = np.union1d(train, test)
    of_photo: dict[int, np.ndarray] = {}
    of_rendition: dict[int, np.ndarray] = {}
    drawn = {*drawn_train, *drawn_test}
    photos = read_photos(data, [records[row] for row in chosen])
    for index, photo in tqdm(photos, total=len(chosen), desc="attribute judge", mininterval=20):
        row = int(chosen[index])
        portrait = align_face(photo, records[row].landmarks, PORTRAIT_TEMPLATE, PORTRAIT_SIZE)
        of_photo[row] = features(portrait)
        if row in drawn:
            of_rendition[row] = features(render(portrait, STYLES[styles[row]]))
    accuracy: dict[str, tuple[float, int]] = {}

    def tell(name: str, right: np.ndarray) -> None:
        if len(right):
            accuracy[name] = (float(right.mean()), len(right))

    def binary(name: str) -> LinearClassifier:
        def labelled(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            known = [
                (of_photo[row], int(getattr(facts[row], name))) for row in rows if getattr(facts[row], name) is not None
            ]
            return np.array([x for x, _ in known]), np.array([y for _, y in known])

        classifier = fit(*labelled(train), classes=2)
        x, y = labelled(test)
        found = classifier.probabilities(x)[:, 1] > 0.5
        tell(f"{name}_seen", found[y == 1])
        tell(f"{name}_absent", ~found[y == 0])
        return classifier

    def pictures(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shown = [of_rendition[row] for row in rows] + [of_photo[row] for row in rows[: len(rows) // 2]]
        return np.array(shown), np.array([styles[row] for row in rows] + [0] * (len(rows) // 2))

    style = fit(*pictures(drawn_train), classes=len(STYLES))
    x, y = pictures(drawn_test)
    right = style.probabilities(x).argmax(1) == y
    tell("rendition", right[y > 0])
    tell("photo", right[y == 0])
    return AttributeJudge(binary("glasses"), binary("hat"), style, accuracy)
