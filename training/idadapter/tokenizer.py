"""The text side's vocabulary: CLIP's byte-level byte-pair encoding, trained on our own captions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import CLIPTokenizer

IDENTIFIER = "sks"
"""The identifier word whose token embedding the identity replaces (paper, section 3.2)."""

END_OF_WORD = "</w>"

PROMPT_WORDS = """
snow car library beach forest city street kitchen office garden mountain sea sunset night sunlight
streetlight studio light santa plate armour armor chef outfit crown helmet uniform suit dress shirt jacket
scarf pixar ghibli watercolour watercolor sculpture marble bronze anime statue red blue green golden hair
face rosy freckles scar child youth teenager toddler elderly full body shot playing the guitar riding a
horse bicycle reading book drinking coffee bottom view top confused furious delighted annoyed disgusted
crying winking screaming tired excited bored calm
""".split()
"""Words of the paper's prompts and their like, kept whole though no caption has them."""


def train_tokenizer(captions: Iterable[str], merges: int, max_length: int) -> CLIPTokenizer:
    """Learns merges from captions.

    The vocabulary holds all 256 bytes, inside and at the end of a word, so that any text has tokens.

    Args:
        captions: training text; the identifier and `PROMPT_WORDS` are added so that each is one token or few.
        merges: at most so many merges.
        max_length: tokens of a prompt with both its special tokens.

    Returns:
        a tokenizer like the one `transformers` ships for CLIP.
    """
    blank = CLIPTokenizer()
    backend = Tokenizer(BPE(end_of_word_suffix=END_OF_WORD))
    backend.normalizer = blank.backend_tokenizer.normalizer
    backend.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    trainer = BpeTrainer(vocab_size=10**6, min_frequency=2, end_of_word_suffix=END_OF_WORD, show_progress=False)
    corpus = [*captions, *[IDENTIFIER] * 10_000, *(word for word in PROMPT_WORDS for _ in range(20))]
    backend.train_from_iterator(corpus, trainer)
    learned = json.loads(backend.to_str())["model"]["merges"][:merges]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*alphabet, *(byte + END_OF_WORD for byte in alphabet)])
    kept = []
    for left, right in learned:
        if left in tokens and right in tokens:
            kept.append((left, right))
            tokens[left + right] = None
    tokens |= dict.fromkeys(["<|startoftext|>", "<|endoftext|>"])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=kept, model_max_length=max_length)


def encode_prompts(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Token ids [b, L], int64, padded to the model's length.

    Raises:
        ValueError: a prompt is longer than the model's length; the service refuses such prompts too.
    """
    rows = tokenizer(prompts, padding="max_length", truncation=False)["input_ids"]
    if max(len(row) for row in rows) > tokenizer.model_max_length:
        raise ValueError(f"a prompt needs more than {tokenizer.model_max_length} tokens")
    return torch.tensor(rows)


def shortened(tokenizer: CLIPTokenizer, caption: str, reserved: int = 0) -> str:
    """The caption without as many of its last phrases as must go for it to fit.

    One in millions has more words than the model reads; it must not end the training.

    Args:
        tokenizer: the model's.
        caption: phrases, joined by ", ".
        reserved: tokens that shall be left free for the identifier.
    """
    while len(tokenizer(caption)["input_ids"]) > tokenizer.model_max_length - reserved and ", " in caption:
        caption = caption.rpartition(", ")[0]
    return caption


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer of a bundle's `tokenizer/` folder."""
    return CLIPTokenizer.from_pretrained(str(folder))


def with_identifier(prompt: str, noun: str) -> str:
    """The prompt with "[class noun] is sks" appended (section 3.2)."""
    return f"{prompt}, {noun} is {IDENTIFIER}"


def without_identifier(prompt: str, noun: str) -> str:
    """The words alone of a prompt that `with_identifier` made."""
    return prompt.removesuffix(with_identifier("", noun))
