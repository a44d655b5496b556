"""A small CLIP tokenizer and prompts that are hard on tokenizers, for the fixtures."""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

IDENTIFIER = "sks"
MAX_LENGTH = 64
VOCABULARY_SIZE = 1400

CORPUS = (
    "a an the photo portrait painting sketch of man woman boy girl person is smiling happy sad angry "
    "surprised young old with glasses hat beard long short black blond brown grey curly straight hair "
    "wearing suit dress in snow car library garden street studio light sunlight watercolour sculpture "
    "pencil side view front bottom looking left right up down closed open mouth eyes eyebrows "
    "lipstick earrings necklace background white dark bright soft detailed sharp professional "
    "photography cinema film grain playing guitar reading book drinking coffee holding flowers "
    "standing "
)
WORDS = CORPUS.split()

HAND_WRITTEN = [
    "",
    " ",
    "\n\t  \r\n",
    "a photo, woman is sks",
    "SKS sks Sks sKs, man is sks",
    "sks",
    "a sks photo of sks, sks is sks",
    "asks sksy sks's sks-like sks_sks",
    "A Photo Of A WOMAN IN THE SNOW",
    "it's I'm you're we've they'll he'd don't can't o'clock 'tis 's 't 're 've 'm 'll 'd",
    "IT'S I'M YOU'RE WE'VE THEY'LL HE'D DON'T",
    "it’s curly ‘quotes’ “double” «guillemets»",
    "''s'''t''''",
    "'s't're've'm'll'd",
    "' s",
    "x'sy",
    "a,b;c:d!e?f(g)h[i]j{k}l<m>n/o\\p|q@r#s$t%u^v&w*x-y_z=~`+",
    "((masterpiece:1.4)), [[low quality]] <lora:face:0.8>",
    "...!!!???",
    "—–-‐‑‒―",
    "a - b – c — d",
    "50% off $5.99 €20 £3 ¥100 ₹5 ₿1",
    "12345 1a2b3c 3.14159 1,000,000 2024-03-13 1st 2nd 3rd",
    "½ ¾ ² ³ ⁴ ₅ Ⅷ ⅷ ① ⑩ ㊿ ٣ ४ ৫ ๖ 七 万 𝟗 🄂",
    "café naïve façade résumé Ångström",
    "cafe\u0301 nai\u0308ve fac\u0327ade re\u0301sume\u0301 A\u030angstro\u0308m",
    "e\u0301\u0323 e\u0323\u0301 \u1e69 s\u0323\u0307 s\u0307\u0323",
    "q\u0307\u0323 Z\u0351\u036b\u0343\u032a\u0302\u036b",
    "\u0301leading mark",
    "a\u20dd b\u20e3 1\ufe0f\u20e3 #\ufe0f\u20e3",
    "ΟΔΥΣΣΕΥΣ ὈΔΥΣΣΕΎΣ Σ ΑΣ Σ. ΑΣ' ΑΣΑ άΣ\u0301 ς σ",
    "ΣΊΣΥΦΟΣ, man is sks",
    "İSTANBUL ISTANBUL ıstanbul İ I\u0307",
    "STRASSE straße STRAẞE",
    "ǅ ǈ ǋ ǲ Ǆ ǆ",
    "ﬁ ﬂ ﬃ ﬅ ĳ Ĳ ŉ ǰ ΐ",
    "Å \u212b A\u030a Ω \u2126 K \u212a",
    "Ⅻ ⓐ Ⓐ ａ Ａ １",
    "ẞ ß ſ S",
    "𐐀𐐁 𐐨𐐩 𝐀𝐛𝓒𝔡 \U0001e900\U0001e922",
    "ᲐᲑᲒ აბგ Ⴀ ⴀ Ꭰ ꭰ",
    "하늘 \u1112\u1161\u1102\u1173\u11af 가\u11a8",
    "你好，世界。 漢字 かな カタカナ ｶﾅ が か\u3099 ㍿",
    "豈 \uf900 \u2f800 \U0002f800",
    "Привет МИР ёлка ЁЛКА й и\u0306",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \ufdfa \u0640 \u064e",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u05d1\u05b0\u05bc\u05e8\u05b5\u05d0\u05e9\u05b4\u05c1\u05d9\u05ea \ufb2a",
    "नमस\u094dत\u0947 द\u0941न\u093fय\u093e क\u093c \u0958",
    "ไทย สว\u0e31สด\u0e35 กำ",
    "zero\u200bwidth joiner\u200djoined non\u200cjoiner bom\ufefftext soft\u00adhyphen word\u2060joiner",
    "\ufeff start",
    "\u200b",
    "\u200b \u200b",
    "left\u200eright\u200fmark \u202aembed\u202c \u2066iso\u2069",
    "tab\there new\nline cr\rhere vt\x0bff\x0c nel\x85 nbsp\u00a0 ogham\u1680",
    "en\u2002em\u2003thin\u2009hair\u200a",
    "line\u2028para\u2029 narrow\u202f math\u205f ideo\u3000 mongol\u180e",
    "fs\x1cgs\x1drs\x1eus\x1f bell\x07 esc\x1b del\x7f c1\x80\x9f",
    "nul\x00here",
    "  many   spaces    between     words  ",
    "trailing   ",
    "   leading",
    "😀 😃😄 👍🏽 👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 🇩🇪🇫🇷 ❤\ufe0f ❤ ☺\ufe0f ©\ufe0f ™ 🧑🏿\u200d🚀",
    "smile😀smile 1😀2 😀, woman is sks",
    "👨\u200d",
    "\U0001fae8\U0001fa75\U0001f6dc",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "<|startoftext|>",
    "<|endoftext|>",
    "a <|endoftext|> b",
    "<|ENDOFTEXT|> <|StartOfText|>",
    "<|endoftext|><|endoftext|>",
    "x<|startoftext|>y",
    "<|endoftext |> <|endoftext",
    "  <|endoftext|>  after",
    "|> <|",
    "\ufffd \ufffe \uffff \U0010ffff \ue000",
    "¿Qué? ¡Sí! ñ Ñ",
    "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308",
    "http://example.org/a?b=c&d=e#f mail@example.org C:\\path ~/x",
    "snake_case camelCase kebab-case UPPER_CASE",
    "\u0301",
    "\u0345 ᾳ α\u0345 ᾼ",
    "ʼn ŉ 'N",
    "x" * 300,
    "ab" * 200 + " " + "Ä" * 150,
    "word " * 120,
    "😀" * 80,
    "٠١٢٣٤٥٦٧٨٩",
]

PIECES = [
    "sks",
    "it's",
    "DON'T",
    "we'll",
    "ÉCOLE",
    "Σίσυφος",
    "ΛΟΓΟΣ",
    "ΑΣ",
    "İzmir",
    "straße",
    "日本語",
    "한국어",
    "привет",
    "ΠΡΟΣ",
    "👩\u200d🎨",
    "😀",
    "👍🏽",
    "❤\ufe0f",
    "🇯🇵",
    "e\u0301",
    "o\u0308\u0304",
    "\u0327c",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u00ad",
    "\u2060",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\t",
    "\n",
    "  ",
    "\x85",
    "\x1f",
    "\u180e",
    "1",
    "42",
    "٣",
    "½",
    "Ⅷ",
    "²",
    "!",
    "...",
    "—",
    "’s",
    "'s",
    "'",
    '"',
    ",",
    ".",
    "(",
    ")",
    "#tag",
    "@me",
    "a_b",
    "x-y",
    "𝒜",
    "𐐀",
    "ǅ",
    "ﬁ",
    "ẞ",
    "\u212b",
    "क\u094dष\u093f",
    "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
    "\u0645\u0631\u062d\u0628\u0627",
    "ไทย",
    "<|endoftext|>",
    "<|startoftext|>",
    "<|",
    "|>",
    "ꙮ",
    "﷽",
]


def make_prompts(count: int) -> list[str]:
    """Prompts written by hand, then seeded mixtures of words, odd pieces and random code points."""
    draw = random.Random(2403_13535)
    prompts = list(HAND_WRITTEN)
    while len(prompts) < count:
        parts = []
        for _ in range(draw.randint(1, 40)):
            kind = draw.random()
            if kind < 0.5:
                word = draw.choice(WORDS)
                parts.append(draw.choice([word, word.upper(), word.title(), word[::-1]]))
            elif kind < 0.9:
                parts.append(draw.choice(PIECES))
            else:
                parts.append(chr(draw.choice([draw.randint(0x20, 0x24F), draw.randint(0x250, 0xD7FF)])))
        prompts.append("".join(part + draw.choice(["", " ", " ", "  "]) for part in parts))
    return prompts[:count]


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """Trains a byte-level BPE vocabulary in CLIP's layout and saves it to ``folder``.

    The layout is CLIP's: 256 bytes, 256 bytes that end a word, the merges, the two special tokens. The
    identifier is one token.
    """
    draw = random.Random(7)
    corpus = [" ".join(draw.choices(WORDS, k=12)) for _ in range(3000)]
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY_SIZE, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator(corpus, trainer)
    merges = read_merges(trained)
    for merge in (("s", "k"), ("sk", "s</w>")):
        if merge not in merges:
            merges.append(merge)

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *(a + b for a, b in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)
    assert tokenizer.tokenize(IDENTIFIER) == [IDENTIFIER + "</w>"]
    tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def read_merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """The merges of a trained BPE, in order."""
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
