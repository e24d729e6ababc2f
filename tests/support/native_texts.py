"""Texts tokenized by the native library and by Python, to be compared."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers, trainers

from effbert.runtime import Encoder
from effbert.runtime.bundle.manifest import Limits, Task, Tokenizer
from effbert.runtime.errors import InputError
from effbert.runtime.texts.tokenization import EncodedText, Text
from native_driver import ROOT, Driver, RefusedError
from tokenizer_files import (
    ALPHABETS,
    OF_ALBERT,
    odd_strings,
    write_byte_bpe,
    write_files,
    write_sentencepiece,
    write_vocab_txt,
)

LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert uncased": ("bert", {}),
    "bert cased": ("bert", {"do_lower_case": False}),
    "distilbert": ("distilbert", {}),
    "electra": ("electra", {}),
    "mpnet": ("mpnet", {}),
    "roberta": ("roberta", {}),
    "modernbert": ("modernbert", {}),
    "xlm-roberta": ("xlm-roberta", {}),
    "albert": ("albert", {}),
    "deberta-v3": ("deberta-v2", {}),
}
# Classes of transformers for other families, and what writes their files.
CLASSES: dict[str, Callable[[Path], None]] = {
    "BigBirdTokenizer": write_sentencepiece("spiece.model"),
    "CamembertTokenizer": write_sentencepiece("sentencepiece.bpe.model"),
    "DebertaTokenizer": write_byte_bpe,
    "FNetTokenizer": write_sentencepiece("spiece.model", **OF_ALBERT),
    "FunnelTokenizer": lambda folder: write_vocab_txt(folder, "<pad> <unk> <cls> <sep> <mask>"),
    "RemBertTokenizer": write_sentencepiece("sentencepiece.model", **OF_ALBERT),
    "XLNetTokenizer": write_sentencepiece("spiece.model"),
}
TASKS: dict[str, Task] = {
    "any": "text-classification",
    "pairs": "question-answering",
    "texts": "token-classification",
}


class Setting(NamedTuple):
    """How texts are tokenized."""

    longest: int = 512
    left: bool = False
    special: bool = True
    texts: str = "any"
    shortest: int = 2


def write_layout(folder: Path, layout: str) -> bytes:
    """The tokenizer.json of a family."""
    if layout in CLASSES:
        folder.mkdir()
        CLASSES[layout](folder)
        return _built(layout, folder)
    family, settings = LAYOUTS[layout]
    if settings:  # of the files that a tokenizer.json is made from
        own = write_files(folder, family, "own files", "nowhere")
        return _built("BertTokenizer", own, **settings)
    own = write_files(folder, family, "tokenizer.json", "nowhere")
    return (own / "tokenizer.json").read_bytes()


def _built(name: str, folder: Path, **settings: Any) -> bytes:
    import transformers

    own = getattr(transformers, name).from_pretrained(str(folder), **settings)
    return bytes(own.backend_tokenizer.to_str().encode())


def trained(data: bytes, size: int) -> bytes:
    """The same tokenizer with a vocabulary learnt from the documentation and odd strings."""
    tokenizer = tokenizers.Tokenizer.from_str(data.decode())
    special = [token["content"] for token in json.loads(data)["added_tokens"]]
    common = {"vocab_size": size, "special_tokens": special, "show_progress": False}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    kinds = {
        "WordPiece": trainers.WordPieceTrainer(**common),
        "BPE": trainers.BpeTrainer(initial_alphabet=alphabet, **common),
        "Unigram": trainers.UnigramTrainer(
            unk_token=next(token for token in special if "unk" in token.lower()), **common
        ),
    }
    pages = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    corpus = [*pages.splitlines(), *odd_strings(3000, seed=5)]
    tokenizer.train_from_iterator(corpus, kinds[json.loads(data)["model"]["type"]])
    found = json.loads(tokenizer.to_str())
    for token in found["added_tokens"]:
        token["id"] = special.index(token["content"])
    return json.dumps(found).encode()


def random_texts(count: int, seed: int) -> Iterator[str]:
    """Texts of any characters; half of them of neighbours in Unicode."""
    draw = random.Random(seed)
    for _ in range(count):
        length, kind = draw.randint(1, 30), draw.random()
        if kind < 0.25:
            points = [draw.randrange(0x110000) for _ in range(length)]
        elif kind < 0.6:
            base = draw.randrange(0x3400)
            points = [base + draw.randrange(64) for _ in range(length)]
        elif kind < 0.8:
            base = draw.randrange(0x1FFC0)
            points = [base + draw.randrange(64) for _ in range(length)]
        else:
            letters = "".join(ALPHABETS) + "ｶﾞㅎㅏㄴ한각กำक्षि्ﬁ℡™ℹ☀️"
            points = [ord(draw.choice(letters)) for _ in range(length)]
        yield "".join(chr(c) for c in points if not 0xD800 <= c < 0xE000)


# What joins its neighbours to clusters, changes when it is normalized, or both.
CLUSTERS = (
    "™ℹⓂ㊗㊙‼⁉☀©®🇩🇪👩👍🏽①ﬁ½ÅİıßẞǅΣςﾡￂｶﾞﾊﾟ가각ㄱㅏกำ e ab'`\r\n"
    "\u200d\u200d\ufe0f\u0301\u0308\u0327\u0344\u0345\u0340\u0307\u0323\u05b0\u0f73\u3099\u309a"
    "\u0915\u0958\u0959\u093c\u093e\u0903\u094d\u094d\u0d15\u0d4d\u0d3e\u0c55\u0f40\u0e33\u0eb3"
    "\u1100\u1161\u11a7\u11a8\uac00\u0600\u06dd\u070f\u0890\U000110bd\u00ad\u200b\u0007\u0085"
    "\u212b\u1e9b\u3000\u2028\ufb1d\ufb2c\u1f71\u2126\u304b\u30ab\ufeff"
)


def cluster_texts(count: int, seed: int) -> Iterator[str]:
    """Texts whose grapheme clusters are hard to tell."""
    draw = random.Random(seed)
    for _ in range(count):
        yield "".join(draw.choices(CLUSTERS, k=draw.randint(1, 12)))


def both(driver: Driver, data: bytes, setting: Setting) -> Encoder:
    """Configure the native side, and return Python's."""
    flags = (setting.left, setting.special, setting.texts == "pairs", setting.texts == "texts")
    driver.ask(b"t", struct.pack("<II4B", setting.longest, setting.shortest, *flags) + data)
    record = Tokenizer(
        file="tokenizer.json",
        vocab_size=2_000_000,
        max_length=setting.longest,
        special_ids={},
        truncation_side="left" if setting.left else "right",
        special_tokens_in_text=setting.special,
    )
    limits = Limits(max_length=8192, vocab_size=2_000_000, min_length=setting.shortest)
    return Encoder(data, record, limits, TASKS[setting.texts], ["token_type_ids", "word_map"])


def native_row(driver: Driver, text: Text) -> tuple[bool, np.ndarray] | str:
    """Whether a text was cut and, of each token, seven numbers; or why it is refused."""
    try:
        if isinstance(text, str):
            answer = driver.ask(b"e", text.encode())
        else:
            first, second = (part.encode() for part in text)
            answer = driver.ask(b"p", struct.pack("<I", len(first)) + first + second)
    except RefusedError as error:
        return str(error)
    return answer[:1] == b"1", np.frombuffer(answer[1:], "<i4").reshape(-1, 7)


def python_row(encoder: Encoder, text: Text) -> tuple[bool, np.ndarray] | str:
    """The same from Python."""
    try:
        (item,) = encoder.encode([text])
    except InputError as error:
        return str(error)
    return item.truncated, _numbers(item)


def _numbers(item: EncodedText) -> np.ndarray:
    encoding = item.encoding
    rows = zip(
        item.ids,
        encoding.type_ids,
        (-1 if word is None else word for word in encoding.word_ids),
        (-1 if part is None else part for part in encoding.sequence_ids),
        (start for start, _ in encoding.offsets),
        (end for _, end in encoding.offsets),
        item.word_map,
        strict=True,
    )
    return np.array(list(rows), dtype=np.int64).reshape(-1, 7)


def compare(driver: Driver, encoder: Encoder, texts: Iterable[Text], columns: int = 7) -> int:
    """Compare the first columns of every row; return how many rows there were."""
    count = 0
    for text in texts:
        native, python = native_row(driver, text), python_row(encoder, text)
        if isinstance(native, str) or isinstance(python, str):
            assert isinstance(native, str), (text, python)
            assert isinstance(python, str), (text, native)
        else:
            assert native[0] == python[0], text
            ours, theirs = native[1][:, :columns], python[1][:, :columns]
            assert ours.tolist() == theirs.tolist(), (text, ours.tolist(), theirs.tolist())
        count += 1
    return count
