"""Captions say what is known of a photo, in many ways, and never anything else."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from idadapter.data.captions import (
    AGES,
    DRAWING_WORDS,
    EMOTION_WORDS,
    EMOTIONS,
    HAT_WORDS,
    LAUGHING,
    NO,
    NOT_SMILING,
    RENDITION_WORDS,
    SIDED,
    SMILING,
    VIEW_WORDS,
    VIEWS,
    YES,
    mirrored,
)
from idadapter.data.captions import caption as make_caption
from idadapter.data.facts import Facts
from idadapter.data.told import tells_drawing, tells_hat

NOTHING = Facts("woman", *[None] * 16, yaw=0.1)
"""Facts of a photo of which nothing is known; its view is between front and side."""

ALL_VIEWS = {word for words in VIEWS.values() for word in words} | {"side view", "profile view"}
ALL_EXPRESSIONS = {*SMILING, *LAUGHING, *NOT_SMILING, *(word for words in EMOTIONS.values() for word in words)}


def caption(facts: Facts, seed: int, rendition: str | None = None, noun: str | None = None) -> str:
    return make_caption(facts, np.random.default_rng(seed), rendition, noun)


def says(text: str, phrase: str) -> bool:
    """Whether the caption has the phrase, whole words; "not smiling" does not say "smiling"."""
    return re.search(rf"(?<!not )(?<![\w-]){re.escape(phrase)}(?![\w-])", text) is not None


def captions(facts: Facts, count: int = 600) -> list[str]:
    return [caption(facts, seed) for seed in range(count)]


def known(**facts: object) -> Facts:
    return replace(NOTHING, **facts)


def random_facts(random: np.random.Generator) -> Facts:
    """Any combination of facts that one photo can have."""

    def maybe() -> bool | None:
        return (None, True, False)[random.integers(3)]

    names = "smiling mouth_open bald fringe wavy beard mustache goatee glasses hat tie lipstick chubby".split()
    facts = {name: maybe() for name in names}
    emotion = (None, *EMOTIONS)[random.integers(1 + len(EMOTIONS))]
    hair = (None, "black", "blond", "brown", "grey")[random.integers(5)]
    age = (None, "young", "old")[random.integers(3)]
    noun = ("man", "woman")[random.integers(2)]
    return Facts(noun=noun, emotion=emotion, hair=hair, age=age, yaw=float(random.uniform(-0.5, 0.5)), **facts)


@pytest.mark.parametrize("name", YES)
def test_every_phrase_of_a_true_fact_appears(name: str):
    texts = captions(known(**{name: True}))
    for phrase in YES[name]:
        assert any(says(text, phrase) for text in texts), phrase


@pytest.mark.parametrize("name", NO)
def test_every_phrase_of_a_false_fact_appears(name: str):
    texts = captions(replace(known(**{name: False}), noun="man"), 1500)
    for phrase in NO[name]:
        assert any(says(text, phrase) for text in texts), phrase


@pytest.mark.parametrize(
    ("facts", "phrases"),
    [
        (known(smiling=True), SMILING),
        (known(smiling=True, mouth_open=True), LAUGHING),
        (known(smiling=False), NOT_SMILING),
        *((known(smiling=False, emotion=emotion), words) for emotion, words in EMOTIONS.items()),
        (known(yaw=-0.3), (*VIEWS["left"], "side view", "profile view")),
        (known(yaw=0.3), (*VIEWS["right"], "side view", "profile view")),
        (known(yaw=0.0), VIEWS["front"]),
        (known(hair="grey"), ("with grey hair", "grey-haired", "has grey hair")),
        *((known(age=age), words) for age, words in AGES.items()),
    ],
)
def test_expression_view_hair_and_age_appear(facts: Facts, phrases: tuple[str, ...]):
    texts = captions(facts, 1500)
    for phrase in phrases:
        assert any(says(text, phrase) for text in texts), phrase


def allowed(facts: Facts) -> set[str]:
    """Every phrase that a caption of these facts may have."""
    found = set()
    for name, words in YES.items():
        if getattr(facts, name):
            found |= set(words)
    for name, words in NO.items():
        if getattr(facts, name) is False:
            found |= set(words)
    if facts.smiling:
        found |= set(LAUGHING if facts.mouth_open else SMILING)
    elif facts.emotion:
        found |= set(EMOTIONS[facts.emotion])
    elif facts.smiling is False:
        found |= set(NOT_SMILING)
    if facts.view:
        found |= set(VIEWS[facts.view])
        if facts.view != "front":
            found |= {"side view", "profile view"}
    if facts.age:
        found |= set(AGES[facts.age])
    return found


def test_captions_never_contradict_the_facts_nor_tell_what_is_not_known():
    everything = ALL_VIEWS | ALL_EXPRESSIONS | {w for words in (*YES.values(), *NO.values()) for w in words}
    everything |= {word for words in AGES.values() for word in words}
    random = np.random.default_rng(0)
    for seed in range(1500):
        facts = random_facts(random)
        may = allowed(facts)
        text = caption(facts, seed)
        for phrase in everything - may:
            # "woman is" and "smiling with teeth" together say "is smiling".
            if not any(phrase.removeprefix("is ") in other for other in may):
                assert not says(text, phrase), f"{phrase!r} in {text!r} of {facts}"
        for colour in ("black", "blond", "brown", "grey"):
            hair = facts.hair == colour and not facts.bald
            assert hair or not re.search(rf"{colour}( hair|-haired)", text), text
        other = {"man": "woman", "woman": "man"}[facts.noun]
        assert not says(text, other)
        assert says(text, facts.noun) or says(text, "person")


GLAD = r"(?<!not )\bsmil|\bhappy|joyful|cheerful|laughing|grinning|delighted|big smile"
GRAVE = "not smiling|unsmiling|serious|neutral|sad|angry|furious|afraid|scared|worried"


@pytest.mark.parametrize(
    ("facts", "never"),
    [
        ({"smiling": True}, GRAVE),
        ({"smiling": True, "emotion": "sad"}, GRAVE),
        ({"smiling": False}, GLAD),
        *(({"smiling": False, "emotion": emotion}, GLAD) for emotion in EMOTIONS),
        ({"emotion": "sad"}, "angry|furious|surprised|serious"),
        ({"glasses": False}, "(with|in|wearing) (eye)?glasses"),
        ({"glasses": True}, "without glasses|no glasses"),
        ({"hat": False}, "(with|in|wearing) a (hat|cap)"),
        ({"hat": True}, "without a hat|bareheaded"),
        ({"beard": False}, "bearded|(with|has) a beard"),
        ({"beard": True}, "shaven|without a beard"),
        ({"mouth_open": True}, "closed"),
        ({"mouth_open": False}, "open|teeth"),
        ({"yaw": -0.3}, "right|front|straight|facing the camera"),
        ({"yaw": 0.3}, "left|front|straight|facing the camera"),
        ({"yaw": 0.0}, "left|right|side|profile"),
        ({"age": "young"}, "old|elderly|aged"),
        ({"age": "old"}, "young|youthful"),
    ],
)
def test_words_mean_what_they_say(facts: dict[str, object], never: str):
    # Written without the tables of words, which may be wrong themselves.
    for text in captions(known(**facts), 400):
        assert not re.search(never, text), text


def test_mirroring_swaps_left_and_right_and_nothing_else():
    random = np.random.default_rng(1)
    swap = {"left": "right", "right": "left"}
    turned = 0
    for seed in range(400):
        facts = random_facts(random)
        flipped = caption(mirrored(facts), seed)
        swapped = re.sub(r"\b(left|right)\b", lambda match: swap[match[0]], caption(facts, seed))
        assert flipped == swapped
        turned += bool(re.search("left|right", flipped))
        assert mirrored(mirrored(facts)) == facts
    assert turned > 50


def test_a_seed_gives_one_caption_and_seeds_give_many():
    facts = known(glasses=True, smiling=True, hair="brown", yaw=-0.3)
    assert captions(facts, 50) == captions(facts, 50)
    assert len(set(captions(facts, 300))) > 150


@pytest.mark.parametrize("rendition", RENDITION_WORDS)
def test_every_rendition_is_named(rendition: str):
    texts = [caption(known(glasses=True), seed, rendition) for seed in range(200)]
    frames = [tuple(part for part in frame.split("{}") if part) for frame in RENDITION_WORDS[rendition]]
    for text in texts:
        assert any(all(part in text for part in parts) for parts in frames), text
    for parts in frames:
        assert any(all(part in text for part in parts) for text in texts), parts
    photos = captions(known(glasses=True), 200)
    assert not any("sketch" in text or "painting" in text or "cartoon" in text for text in photos)


def test_the_callers_noun_is_kept():
    for seed in range(100):
        assert says(caption(NOTHING, seed, noun="woman"), "woman")


@pytest.mark.parametrize("noun", ["man", "woman"])
def test_articles_fit(noun: str):
    for age in (None, "young", "old"):
        for text in captions(replace(NOTHING, noun=noun, age=age), 300):
            assert not re.search(r"\ban? [^ ]*\b", text) or not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text


def test_view_words_are_in_all_words_for_views_and_in_no_others():
    every = {word for words in VIEW_WORDS.values() for word in words}
    assert all(every & set(words.split()) for words in ALL_VIEWS)
    assert not any(every & set(words.split()) for words in ALL_EXPRESSIONS)
    for side in ("left", "right"):
        assert all(set(VIEW_WORDS[side]) & set(words.split()) for words in VIEWS[side])
    assert not any(set(SIDED) & set(words.split()) for words in ALL_VIEWS)


def test_emotion_words_are_in_all_words_for_emotions_and_in_no_smiles():
    for words in (words for several in EMOTIONS.values() for words in several):
        assert set(EMOTION_WORDS) & set(words.split()), words
    assert not any(set(EMOTION_WORDS) & set(words.split()) for words in (*SMILING, *LAUGHING, *ALL_VIEWS))


def test_hat_words_are_in_all_words_for_hats_and_in_no_others():
    for name, several in (*YES.items(), *NO.items()):
        for words in several:
            assert bool(set(HAT_WORDS) & set(words.split())) == tells_hat(words) == (name == "hat"), words
    assert not any(set(HAT_WORDS) & set(words.split()) for words in (*ALL_EXPRESSIONS, *ALL_VIEWS))


def test_drawing_words_are_in_all_words_for_drawings_and_in_no_others():
    for name, forms in RENDITION_WORDS.items():
        for form in forms:
            assert tells_drawing(form.format("a woman")) == (name != "black_and_white"), form
    others = (*ALL_EXPRESSIONS, *ALL_VIEWS, *(words for several in (*YES.values(), *NO.values()) for words in several))
    assert not any(tells_drawing(words) for words in others)
    told = {word for forms in RENDITION_WORDS.values() for form in forms for word in re.findall(r"\w+", form)}
    assert set(DRAWING_WORDS) & told == set(DRAWING_WORDS[:6])
