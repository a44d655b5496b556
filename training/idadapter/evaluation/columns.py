"""The table's columns: what is served, real photos, and real photos through the autoencoder alone."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from ..judges.attributes import STYLES
from ..judges.panel import Face, Verdict
from .asks import EMOTIONS_SEEN, RENDITION_KINDS
from .figures import (
    Figure,
    colour_figures,
    diversity_figures,
    found_figure,
    identity_figures,
    mean_figure,
    reached,
    realism_figure,
    rendition_figures,
)
from .people import Photo
from .portraits import Served

Column = dict[str, Figure | None]

ASKED = ("smiling", "not_smiling", "left", "right", "glasses", "hat", *STYLES)
"""What can be reached; "photo" is what the class noun alone should look like."""


@dataclass(frozen=True)
class References:
    """The people asked for.

    Attributes:
        photos: one a person.
        verdicts: of each photo, cut as portraits are.
    """

    photos: list[Photo]
    verdicts: list[Verdict]

    @property
    def gallery(self) -> list[Face]:
        """The faces found."""
        return [verdict.face for verdict in self.verdicts if verdict.face is not None]


def portrait_column(references: References, served: list[Served], verdicts: list[Verdict], real: np.ndarray) -> Column:
    """Figures of what the service served.

    Args:
        references: whose portraits.
        served: every portrait.
        verdicts: of each.
        real: [n, 640] realism features of real photos.
    """

    def of(*kinds: str) -> list[tuple[Served, Verdict]]:
        return [(s, v) for s, v in zip(served, verdicts, strict=True) if s.ask.kind in kinds]

    photos = [(s, v) for s, v in zip(served, verdicts, strict=True) if s.ask.kind not in RENDITION_KINDS]
    bare = [(s, v) for s, v in photos if s.ask.kind != "hat"]
    everything = identity_figures(_pairs(references, photos), references.gallery)
    similarity = [s.portrait.identity_similarity for s, _ in of("noun")]
    return {
        "face_found": found_figure([v for _, v in photos], [s.ask.person for s, _ in photos]),
        **identity_figures(_pairs(references, of("noun")), references.gallery),
        "id_sim_prompts": everything["id_sim"],
        "top1_prompts": everything["top1"],
        **rendition_figures(_pairs(references, of(*RENDITION_KINDS)), references.gallery),
        "own_similarity": mean_figure([value for value in similarity if value is not None]),
        **colour_figures(_pairs(references, bare), references.gallery),
        "realism": realism_figure(real, [(s.ask.person, v) for s, v in photos]),
        "realism_noun": realism_figure(real, [(s.ask.person, v) for s, v in of("noun")]),
        **diversity_figures(_pairs(references, of("expression"))),
        **_emotions_reached([(s.ask.prompt.split()[-1], v) for s, v in of("expression")]),
        **_reached({kind: [(s.ask.person, v) for s, v in of("noun" if kind == "photo" else kind)] for kind in ASKED}),
        **_absent([(references.photos[s.ask.person], v) for s, v in of("noun", "expression")]),
    }


def photo_column(
    references: References, photos: list[Photo], verdicts: list[Verdict], real: np.ndarray, itself: bool
) -> Column:
    """Figures of real photos of held-out people; what "was asked" is what their labels say they show.

    Args:
        references: the people asked for.
        photos: the references themselves first, then other photos of them.
        verdicts: of each photo, cut as portraits are (or of that through the autoencoder).
        real: as above.
        itself: compare each reference with itself (through the autoencoder), else with other photos of the person.
    """
    own = {p.record.identity: v.face for p, v in zip(references.photos, references.verdicts, strict=True)}
    labelled = list(zip(photos, verdicts, strict=True))
    first, others = labelled[: len(references.photos)], labelled[len(references.photos) :]
    # One photo in ten of CelebA shows somebody else; LFW's names can be trusted.
    compared = first if itself else [(p, v) for p, v in others if p.record.file.startswith("lfw")]
    pairs = [(face, v) for p, v in compared if (face := own[p.record.identity]) is not None]
    shown = {kind: [(p.record.identity, v) for p, v in labelled if _shows(kind, p)] for kind in ASKED}
    return {
        "face_found": found_figure(verdicts, [photo.record.identity for photo in photos]),
        **identity_figures(pairs, references.gallery),
        **colour_figures(pairs, references.gallery),
        **diversity_figures(pairs),
        "realism": realism_figure(real, [(p.record.identity, v) for p, v in first]),
        **_reached(shown),
        **_absent(labelled),
    }


@dataclass(frozen=True)
class Group:
    """People who have something in common, and how their portraits fare.

    Attributes:
        name: of the group.
        people: how many.
        id_sim: prompt = class noun.
        face_found: of all photo prompts.
    """

    name: str
    people: int
    id_sim: Figure | None
    face_found: Figure | None


def group_figures(references: References, served: list[Served], verdicts: list[Verdict]) -> list[Group]:
    """ID-Sim and face found by sex, age and skin tone of the reference."""
    members: dict[str, set[int]] = {
        name: set()
        for name in (
            *("man", "woman"),
            *("under 30", "30 to 50", "over 50"),
            *("light skin as lit", "medium skin as lit", "dark skin as lit"),
        )
    }
    for person, (photo, verdict) in enumerate(zip(references.photos, references.verdicts, strict=True)):
        members[photo.facts.noun].add(person)
        if photo.age_group:
            members[photo.age_group].add(person)
        if verdict.face is not None:
            members[f"{verdict.face.skin_tone} skin as lit"].add(person)
    groups = []
    for name, people in members.items():
        chosen = [(s, v) for s, v in zip(served, verdicts, strict=True) if s.ask.person in people]
        nouns = [(s, v) for s, v in chosen if s.ask.kind == "noun"]
        identity = identity_figures(_pairs(references, nouns), references.gallery)["id_sim"]
        photos = [(s, v) for s, v in chosen if s.ask.kind not in RENDITION_KINDS]
        found = found_figure([v for _, v in photos], [s.ask.person for s, _ in photos])
        groups.append(Group(name, len(people), identity, found))
    return groups


def _pairs(references: References, chosen: list[tuple[Served, Verdict]]) -> list[tuple[Face, Verdict]]:
    faces = [(references.verdicts[s.ask.person].face, v) for s, v in chosen]
    return [(face, verdict) for face, verdict in faces if face is not None]


def _reached(shown: dict[str, list[tuple[Hashable, Verdict]]]) -> Column:
    """Whether pictures show what was asked, by kind: whose picture, and its verdict."""

    def share(*kinds: str) -> Figure | None:
        right = [(person, float(reached(kind, verdict))) for kind in kinds for person, verdict in shown[kind]]
        return mean_figure([value for _, value in right], [person for person, _ in right])

    together = {
        "expression_reached": ("smiling", "not_smiling"),
        "view_reached": ("left", "right"),
        "rendition_reached": RENDITION_KINDS,
    }
    column = {f"{kind}_reached": share(kind) for kind in shown}
    return column | {name: share(*kinds) for name, kinds in together.items()}


def _emotions_reached(told: list[tuple[str, Verdict]]) -> Column:
    """Whether faces have the expression that a word tells, of all words that tell a class and of each."""
    right: dict[str, list[float]] = {word: [] for word in EMOTIONS_SEEN}
    for word, verdict in told:
        if word in right:
            seen = verdict.face is not None and verdict.face.expression == EMOTIONS_SEEN[word]
            right[word].append(float(seen))
    each = {f"{word}_reached": mean_figure(values) for word, values in right.items()}
    return {"emotion_reached": mean_figure([x for values in right.values() for x in values]), **each}


def _absent(shown: list[tuple[Photo, Verdict]]) -> Column:
    """Glasses and hats where neither the words nor the photo have them."""
    column: Column = {}
    for name in ("glasses", "hat"):
        bare = [(p, v) for p, v in shown if getattr(p.facts, name) is False]
        absent = [float(not getattr(v, name)) for _, v in bare]
        column[f"{name}_absent"] = mean_figure(absent, [p.record.identity for p, _ in bare])
    return column


def _shows(kind: str, photo: Photo) -> bool:
    """Whether a real photo is labelled as showing what could be asked; all of them are photos, none a rendition."""
    facts = photo.facts
    match kind:
        case "smiling" | "not_smiling":
            return facts.smiling is (kind == "smiling")
        case "left" | "right":
            return facts.view == kind
        case "glasses" | "hat":
            return getattr(facts, kind) is True
        case _:
            return kind == "photo"
