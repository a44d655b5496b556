"""Figures out of verdicts, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ..judges.panel import Face, Verdict
from ..judges.realism import kernel_distance, kernel_distance_interval


@dataclass(frozen=True)
class Figure:
    """A value, its 95 % interval (None where it would mislead), and of how many pictures."""

    value: float
    interval: tuple[float, float] | None
    count: int


Pair = tuple[Face, Verdict]
"""The reference's face, and what the judges say of another picture of that person."""


def mean_figure(values: Sequence[float] | np.ndarray, people: Sequence[Hashable] | None = None) -> Figure | None:
    """The mean with the interval of a seeded bootstrap that draws people, not pictures; None of nothing.

    Shares (only zeros and ones) have Wilson's interval instead: a bootstrap of nothing but ones has no width.

    Args:
        values: one a picture.
        people: whose each picture is; by default every picture is of somebody else.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return None
    mean, count = float(values.mean()), len(values)
    place = {person: index for index, person in enumerate(dict.fromkeys(range(count) if people is None else people))}
    whose = np.arange(count) if people is None else np.array([place[person] for person in people])
    if np.isin(values, (0, 1)).all():
        return Figure(mean, _wilson_interval(mean, _independent_count(values - mean, whose, mean * (1 - mean))), count)
    sums, sizes = np.bincount(whose, values), np.bincount(whose)
    drawn = np.random.default_rng(0).choice(len(place), (2000, len(place)))
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    return Figure(mean, (float(low), float(high)), count)


def _independent_count(deviations: np.ndarray, whose: np.ndarray, variance: float) -> float:
    """So many pictures of as many people would tell as much: the number of pictures over Kish's design effect.

    Args:
        deviations: [n] from the mean.
        whose: [n] index of each picture's person.
        variance: of one picture.
    """
    count, people = len(whose), int(whose.max()) + 1
    # Where all pictures or all people are alike, nothing tells how alike those of one person are: they count once.
    if variance == 0 or people in (1, count):
        return people
    scatter = float(np.square(np.bincount(whose, deviations)).sum()) / count**2 * people / (people - 1)
    return variance / max(scatter, variance / count)


def _wilson_interval(share: float, count: float) -> tuple[float, float]:
    square = 1.96**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    margin = 1.96 * np.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return max(0.0, float(middle - margin)), min(1.0, float(middle + margin))


def identity_figures(pairs: list[Pair], gallery: list[Face]) -> dict[str, Figure | None]:
    """ID-Sim, the same with strangers, and top-1 retrieval.

    Args:
        pairs: of references and pictures; a picture without a face has no ID-Sim, and is a miss of the retrieval.
        gallery: reference faces of all people, among which each pair's reference is.
    """
    embeddings = np.stack([face.embedding for face in gallery]) if gallery else np.zeros((0, 1))
    place = {id(face): index for index, face in enumerate(gallery)}
    own, strangers, first = [], [], []
    for reference, verdict in pairs:
        if verdict.face is None:
            first.append(0.0)
            continue
        cosines = embeddings @ verdict.face.embedding
        right = place[id(reference)]
        own.append(float(cosines[right]))
        strangers.extend(np.delete(cosines, right))
        first.append(float(cosines.argmax() == right))
    # So many pairs of so few people: an interval over pairs would be far too narrow.
    stranger = Figure(float(np.mean(strangers)), None, len(strangers)) if strangers else None
    return {
        "id_sim": mean_figure(own, _found_people(pairs)),
        "id_sim_strangers": stranger,
        "top1": mean_figure(first, [id(reference) for reference, _ in pairs]),
    }


def rendition_figures(pairs: list[Pair], gallery: list[Face]) -> dict[str, Figure | None]:
    """ID-Sim and top-1 of drawings: whether they are the person, whatever they are drawn with (`identity_figures`)."""
    figures = identity_figures(pairs, gallery)
    return {"id_sim_renditions": figures["id_sim"], "top1_renditions": figures["top1"]}


def diversity_figures(pairs: list[Pair]) -> dict[str, Figure | None]:
    """Expr-Div, Pose-Div pitch and yaw (degrees), as the paper defines them."""
    faces = [(reference, verdict.face) for reference, verdict in pairs if verdict.face is not None]
    people = _found_people(pairs)
    return {
        "expr_div": mean_figure([float(a.expression != b.expression) for a, b in faces], people),
        "pose_div_pitch": mean_figure([abs(a.pitch - b.pitch) for a, b in faces], people),
        "pose_div_yaw": mean_figure([abs(a.yaw - b.yaw) for a, b in faces], people),
    }


def colour_figures(pairs: list[Pair], gallery: list[Face]) -> dict[str, Figure | None]:
    """How far the colours of skin and hair are from the reference's, and from strangers': CIE 1976 differences.

    A recogniser looks past them: without these, who has somebody else's hair may be as alike as can be.

    Args:
        pairs: of references and pictures.
        gallery: reference faces of all people, among which each pair's reference is.
    """
    faces = [(reference, verdict.face) for reference, verdict in pairs if verdict.face is not None]
    figures: dict[str, Figure | None] = {}
    for part in ("skin", "hair"):
        own, strangers = [], []
        for reference, face in faces:
            for other in gallery:
                apart = float(np.linalg.norm(getattr(other, part) - getattr(face, part)))
                (own if other is reference else strangers).append(apart)
        stranger = Figure(float(np.mean(strangers)), None, len(strangers)) if strangers else None
        mean = mean_figure(own, _found_people(pairs))
        figures |= {f"{part}_difference": mean, f"{part}_difference_strangers": stranger}
    return figures


def realism_figure(real: np.ndarray, verdicts: list[tuple[Hashable, Verdict]]) -> Figure | None:
    """Kernel distance of the faces found, each with whom it shows, to real ones [n, 640]; None of under four people."""
    found = [(person, verdict.face.realism) for person, verdict in verdicts if verdict.face is not None]
    people = [person for person, _ in found]
    if len(set(people)) < 4:
        return None
    made = np.stack([features for _, features in found])
    return Figure(kernel_distance(real, made), kernel_distance_interval(real, made, people), len(made))


def found_figure(verdicts: list[Verdict], people: Sequence[Hashable] | None = None) -> Figure | None:
    """Share of the pictures with a face; `people` as in `mean_figure`."""
    return mean_figure([float(verdict.face is not None) for verdict in verdicts], people)


def reached(kind: str, verdict: Verdict) -> bool:
    """Whether a picture shows what was asked; without a face, no expression and no view is reached.

    Args:
        kind: "smiling", "not_smiling", "left", "right", "glasses", "hat", or one of `STYLES`.
        verdict: of the picture.
    """
    face = verdict.face
    if kind in ("smiling", "not_smiling"):
        return face is not None and face.smiling == (kind == "smiling")
    if kind in ("left", "right"):
        return face is not None and face.view == kind
    if kind in ("glasses", "hat"):
        return getattr(verdict, kind)
    return verdict.style == kind


def _found_people(pairs: list[Pair]) -> list[int]:
    """Whose each picture with a face is: a person has one reference."""
    return [id(reference) for reference, verdict in pairs if verdict.face is not None]
