"""Many differently worded captions of one photo, in the forms people and the paper's figures use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .facts import Facts

CLASS_NOUNS = ("man", "woman", "person")
"""What a caller may name the person in the photo."""

RENDITION_WORDS = {
    "pencil_sketch": ("a pencil sketch of {}", "pencil drawing of {}", "{}, pencil sketch", "a sketch of {}"),
    "cartoon": ("a cartoon of {}", "{} as a cartoon", "cartoon portrait of {}", "{}, comic style"),
    "oil_painting": ("an oil painting of {}", "oil painting of {}", "{}, painted in oil", "a painting of {}"),
    "black_and_white": ("a black and white photo of {}", "{}, black and white", "a monochrome portrait of {}"),
}
PHOTO_WORDS = (
    "a photo of {}",
    "a portrait of {}",
    "{}",
    "{}",
    "{}",
    "a picture of {}",
    "a close-up photo of {}",
    "{}, photo",
)

YES = {
    "glasses": ("wearing glasses", "with glasses", "in glasses", "wearing eyeglasses"),
    "hat": ("wearing a hat", "in a hat", "with a hat on", "wearing a cap"),
    "tie": ("wearing a tie", "in a tie"),
    "beard": ("with a beard", "bearded", "has a beard"),
    "mustache": ("with a mustache", "has a mustache"),
    "goatee": ("with a goatee",),
    "bald": ("bald", "with a bald head"),
    "fringe": ("with a fringe", "with bangs"),
    "wavy": ("with wavy hair", "with curly hair"),
    "lipstick": ("wearing lipstick", "with red lips", "with make-up"),
    "chubby": ("chubby", "with a round face"),
    "mouth_open": ("with an open mouth", "mouth open"),
}
NO = {
    "glasses": ("without glasses", "no glasses"),
    "hat": ("without a hat", "bareheaded"),
    "beard": ("clean-shaven", "without a beard"),
    "mouth_open": ("with a closed mouth", "mouth closed"),
}
SMILING = ("smiling", "happy", "with a smile", "delighted", "is happy", "is smiling", "joyful", "cheerful")
LAUGHING = ("laughing", "with a big smile", "delighted", "grinning", "smiling with teeth")
NEUTRAL = ("with a neutral expression", "neutral")
NOT_SMILING = ("not smiling", "serious", "with a serious face", "unsmiling", *NEUTRAL)
EMOTIONS = {
    "angry": ("angry", "furious", "annoyed", "looks angry"),
    "sad": ("sad", "unhappy", "looks sad"),
    "afraid": ("afraid", "scared", "worried", "confused"),
    "surprised": ("surprised", "astonished", "looks surprised"),
    "disgusted": ("disgusted", "annoyed"),
}
EMOTION_WORDS = tuple(dict.fromkeys(words.split()[-1] for several in EMOTIONS.values() for words in several))
"""One of these is in every caption that tells an emotion; smiles are none here: they come whatever the photo does."""
VIEWS = {
    "left": ("facing left", "looking to the left", "turned to the left", "side view facing left", "looking left"),
    "right": ("facing right", "looking to the right", "turned to the right", "side view facing right", "looking right"),
    "front": ("front view", "facing the camera", "looking straight ahead", "seen from the front"),
}
VIEW_WORDS = {
    "left": ("left",),
    "right": ("right",),
    "other": ("facing", "looking", "turned", "view", "front", "profile", "camera", "ahead"),
}
"""One of these is in every caption that tells a view, those of a side in every caption that tells it."""
SIDED = (
    *("eye", "eyes", "eyebrow", "brow", "eyelid", "cheek", "ear", "nostril", "temple", "jaw"),
    *("hand", "arm", "shoulder", "elbow", "finger", "wrist", "sleeve", "pocket", "lapel", "earring", "handed"),
)
"""What callers may name by its side: nobody looks to the left for a mole on a left cheek."""
DRAWING_WORDS = (
    *("sketch", "drawing", "cartoon", "comic", "painting", "painted"),
    *("drawn", "anime", "caricature", "illustration", "manga", "watercolor", "watercolour"),
)
"""One of the first line is in every caption that tells a drawing, and in no other; callers may say the others."""
HAT_WORDS = ("hat", "cap", "bareheaded")
"""One of these is in every caption that tells a hat or none, and in no other."""
AGES = {"young": ("young", "youthful"), "old": ("old", "elderly", "middle-aged")}


def mirrored(facts: Facts) -> Facts:
    """The facts of the photo flipped left to right."""
    return replace(facts, yaw=-facts.yaw)


def expression_words(facts: Facts) -> tuple[str, ...]:
    """The words that fit the expression, empty where nothing is known."""
    if facts.smiling:
        return LAUGHING if facts.mouth_open else SMILING
    if facts.emotion:
        return EMOTIONS[facts.emotion]
    return NOT_SMILING if facts.smiling is False else ()


def details(facts: Facts, random: np.random.Generator) -> list[str]:
    """Phrases for a random part of the facts, expression and view first among equals."""

    def pick(words: tuple[str, ...]) -> str:
        return words[int(random.integers(len(words)))]

    found = []
    if expression_words(facts) and random.random() < 0.6:
        found.append(pick(expression_words(facts)))
    if facts.view and random.random() < 0.55:
        words = VIEWS[facts.view]
        if facts.view != "front" and random.random() < 0.15:
            words = ("side view", "profile view")
        found.append(pick(words))
    for name, words in YES.items():
        if getattr(facts, name) and random.random() < (0.7 if name in ("glasses", "hat") else 0.35):
            found.append(pick(words))
    for name, words in NO.items():
        share = 0.08 if name == "beard" and facts.noun == "woman" else 0.15
        if getattr(facts, name) is False and random.random() < (0.0 if share < 0.1 else share):
            found.append(pick(words))
    if facts.hair and not facts.bald and random.random() < 0.5:
        found.append(pick((f"with {facts.hair} hair", f"{facts.hair}-haired", f"has {facts.hair} hair")))
    return [found[i] for i in random.permutation(len(found))]


def caption(facts: Facts, random: np.random.Generator, rendition: str | None = None, noun: str | None = None) -> str:
    """One caption.

    Args:
        facts: of the photo as shown (see `mirrored`).
        random: draws the wording and which facts are told.
        rendition: one of `RENDITION_WORDS`, or None for a photo.
        noun: the class noun; by default the facts' own, sometimes "person".

    Returns:
        for example "a portrait of a young woman with brown hair, smiling, facing left".
    """
    noun = noun or ("person" if random.random() < 0.1 else facts.noun)
    phrases = details(facts, random)
    age = ""
    if facts.age and random.random() < 0.4:
        words = AGES[facts.age]
        age = words[int(random.integers(len(words)))]
    form = random.random()
    if form < 0.2 and phrases and rendition is None:
        # The paper's own form: "[class noun] is happy", "[class noun], side view".
        head, *rest = phrases
        adjective = not head.startswith(
            ("with", "has", "is", "in ", "looks", "no ", "mouth", "side", "front", "profile")
        )
        text = (
            f"{noun} is {head}"
            if adjective
            else f"{noun} {head}"
            if head.startswith(("has", "is", "looks", "with", "in "))
            else f"{noun}, {head}"
        )
        return ", ".join([text, *rest])
    described = f"{age} {noun}".strip()
    if form < 0.85:
        described = f"{'an' if described[0] in 'aeiou' else 'a'} {described}"
    if phrases and phrases[0].startswith(("with", "wearing", "in ")):
        described = f"{described} {phrases.pop(0)}"
    text = ", ".join([described, *phrases])
    frames = RENDITION_WORDS[rendition] if rendition else PHOTO_WORDS
    return frames[int(random.integers(len(frames)))].format(text)
