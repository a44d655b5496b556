"""What is asked of the service: which prompt for which person, with which seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..data.facts import Facts

EXPRESSION_WORDS = ("happy", "furious", "delighted", "sad", "surprised", "annoyed", "confused")
"""The expressions of the paper's figures."""

EMOTIONS_SEEN = {
    "happy": "happy",
    "delighted": "happy",
    "furious": "angry",
    "annoyed": "angry",
    "sad": "sad",
    "surprised": "surprised",
}
"""Which of `judges.expression.EXPRESSIONS` a word asks for; no class is that of "confused"."""


@dataclass(frozen=True)
class Kind:
    """One kind of prompt.

    Attributes:
        name: of the kind.
        forms: prompts, `{}` for the class noun; people take them in turn.
        share: of the people that are asked this.
        suits: whether to ask this of a person, by the reference's facts.
    """

    name: str
    forms: tuple[str, ...]
    share: float
    suits: Callable[[Facts], bool] = lambda _: True


KINDS = (
    Kind("noun", ("{}",), 1.0),
    Kind("expression", tuple(f"{{}} is {word}" for word in EXPRESSION_WORDS), 0.7),
    Kind("smiling", ("{} is smiling",), 0.15),
    Kind("not_smiling", ("{} is not smiling",), 0.15),
    Kind("left", ("{}, facing left",), 0.15),
    Kind("right", ("{}, facing right",), 0.15),
    Kind("glasses", ("{} with glasses",), 0.12, lambda facts: facts.glasses is False),
    Kind("hat", ("{} wearing a hat",), 0.12, lambda facts: facts.hat is False),
    Kind("pencil_sketch", ("a pencil sketch of a {}",), 0.06),
    Kind("cartoon", ("a cartoon of a {}",), 0.06),
    Kind("oil_painting", ("an oil painting of a {}",), 0.06),
    Kind("black_and_white", ("a black and white photo of a {}",), 0.06),
)
"""In all 2.78 prompts a person: 556 portraits of 200 people, 14 minutes at 1.5 seconds each."""

RENDITION_KINDS = ("pencil_sketch", "cartoon", "oil_painting", "black_and_white")


@dataclass(frozen=True)
class Ask:
    """One portrait to ask for: whose (index into the people), of which kind, by which prompt and seed."""

    person: int
    kind: str
    prompt: str
    seed: int


def plan_asks(facts: list[Facts], kinds: tuple[str, ...] | None = None, best_of: int = 1) -> list[Ask]:
    """Every portrait to ask for, the same every time.

    Args:
        facts: of the reference photo of each person.
        kinds: names of the only kinds to ask for; all by default.
        best_of: portraits of each ask; they take the seed and those after it, which then are no other ask's.
    """
    asks = []
    for number, kind in enumerate(KINDS):
        if kinds is not None and kind.name not in kinds:
            continue
        able = [person for person, known in enumerate(facts) if kind.suits(known)]
        count = min(len(able), max(1, round(kind.share * len(facts))))
        # Small shares are spread over the people, each kind from another start.
        places = (np.arange(count) * len(able) // max(1, count) + 7 * number) % max(1, len(able))
        people = able[:count] if kind.share > 0.5 else [able[place] for place in sorted(places)]
        for turn, person in enumerate(people):
            prompt = kind.forms[turn % len(kind.forms)].format(facts[person].noun)
            asks.append(Ask(person, kind.name, prompt, seed=best_of * (1000 * number + person)))
    return asks
