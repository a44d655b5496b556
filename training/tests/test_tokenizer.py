"""The tokenizer takes any text, and the identifier is one token of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTokenizer

from idadapter.tokenizer import IDENTIFIER, PROMPT_WORDS, encode_prompts, load_tokenizer, shortened, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(parts: Path) -> CLIPTokenizer:
    return load_tokenizer(parts / "tokenizer")


def inner(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    """Ids without start and end."""
    return tokenizer(text)["input_ids"][1:-1]


def random_texts(count: int) -> list[str]:
    """Characters of all planes of Unicode, surrogates left out."""
    random = np.random.default_rng(0)
    tops = (128, 0x250, 0x3000, 0x10000, 0x110000)
    texts = []
    for _ in range(count):
        codes = [int(random.integers(1, tops[random.integers(len(tops))])) for _ in range(random.integers(1, 12))]
        texts.append("".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000))
    return texts


def test_any_text_encodes_without_unknown_tokens(tokenizer: CLIPTokenizer):
    odd = ["", " ", "café", "日本語", "🙂👩‍🚀", "a\u0000b", "ﬁ", "ŁÓDŹ", "' ' '", "<>|"]
    for text in [*odd, *random_texts(500)]:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        assert tokenizer.unk_token_id not in ids[1:-1], text


def test_text_comes_back(tokenizer: CLIPTokenizer):
    for text in ("a photo of a woman, smiling", "café 日本語 🙂", "full body shot playing the guitar"):
        assert tokenizer.decode(inner(tokenizer, text)).replace(" ,", ",").strip() == text


@pytest.mark.parametrize("text", [IDENTIFIER, "SKS", f"woman is {IDENTIFIER}", f"{IDENTIFIER}, {IDENTIFIER}!"])
def test_the_identifier_is_one_token(tokenizer: CLIPTokenizer, text: str):
    identifier = tokenizer.convert_tokens_to_ids(IDENTIFIER + "</w>")
    assert identifier != tokenizer.unk_token_id
    assert inner(tokenizer, text).count(identifier) == text.lower().count(IDENTIFIER)
    assert inner(tokenizer, "skst sk s").count(identifier) == 0


def test_words_of_the_papers_prompts_are_short():
    tokenizer = train_tokenizer(["a photo of a woman"] * 50, merges=2000, max_length=32)
    counts = [len(inner(tokenizer, word)) for word in PROMPT_WORDS]
    assert np.mean(counts) < 1.1


def test_rows_are_padded_to_the_models_length(tokenizer: CLIPTokenizer):
    ids = encode_prompts(tokenizer, ["woman", ""])
    assert ids.shape == (2, tokenizer.model_max_length) == (2, 77)
    assert (ids[0, 2:] == tokenizer.pad_token_id).all()
    assert (ids[1, 1:] == tokenizer.pad_token_id).all()


def test_a_prompt_that_does_not_fit_is_refused_and_not_cut(tokenizer: CLIPTokenizer):
    assert encode_prompts(tokenizer, ["a " * 75]).shape[1] == 77
    with pytest.raises(ValueError, match="77 tokens"):
        encode_prompts(tokenizer, ["woman", "a " * 76])


def test_a_caption_that_does_not_fit_loses_its_last_phrases(tokenizer: CLIPTokenizer):
    long = ", ".join(["a photo of a woman", *["a a a a a"] * 20])
    short = shortened(tokenizer, long, reserved=4)
    assert long.startswith(short + ", ") and len(tokenizer(short)["input_ids"]) <= 77 - 4
    assert len(tokenizer(short + ", a a a a a")["input_ids"]) > 77 - 4
    assert encode_prompts(tokenizer, [shortened(tokenizer, long)]).shape == (1, 77)
    assert shortened(tokenizer, "a woman, smiling", reserved=4) == "a woman, smiling"


def test_saving_keeps_every_id(tokenizer: CLIPTokenizer, tmp_path: Path):
    tokenizer.save_pretrained(str(tmp_path))
    again = load_tokenizer(tmp_path)
    for text in random_texts(50):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
