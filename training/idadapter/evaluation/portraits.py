"""Asks the service for portraits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tqdm import tqdm

from ..service import Portrait, Service
from .asks import Ask
from .people import Photo


@dataclass(frozen=True)
class Served:
    """A portrait and what was asked for."""

    ask: Ask
    portrait: Portrait


def usable_references(service: Service, photos: Iterable[Photo], people: int) -> tuple[list[Photo], list[str]]:
    """The first photos that the service takes as references.

    Args:
        service: what is judged; a photo with two people, or none that it sees, is no reference for it.
        photos: one a person.
        people: at most so many.

    Returns:
        the photos, and why others before them were refused: codes of problems.
    """
    taken: list[Photo] = []
    refusals: list[str] = []
    for photo in photos:
        if len(taken) == people:
            break
        problem = service.refusal_of_photo(photo.picture)
        if problem is None:
            taken.append(photo)
        else:
            refusals.append(problem)
    return taken, refusals


def most_alike(portraits: list[Portrait]) -> Portrait:
    """The portrait that the service itself finds most like its person; one without a face is like nobody."""
    return max(portraits, key=lambda one: -1.0 if one.identity_similarity is None else one.identity_similarity)


def ask_for_portraits(
    service: Service, references: list[Photo], asks: list[Ask], best_of: int = 1, **fields: object
) -> list[Served]:
    """A portrait for every ask.

    Args:
        service: what is judged.
        references: one photo a person.
        asks: what to ask for (`plan_asks`).
        best_of: how many portraits to have made of each, to take the one that is `most_alike`.
        fields: further fields of a generation (docs/api.md).

    Raises:
        RefusedError: the service refused.
    """
    served = []
    for ask in tqdm(asks, desc="portraits", mininterval=20):
        photo = references[ask.person]
        several: dict[str, object] = {"num_images": best_of} if best_of > 1 else {}
        portraits = service.generate(photo.picture, ask.prompt, photo.facts.noun, seed=ask.seed, **several, **fields)
        served.append(Served(ask, most_alike(portraits)))
    return served
