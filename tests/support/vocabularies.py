"""Tiny vocabularies that can spell English, their tokenizers, and random rows of their ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

MAX_TOKENS = 48
WORDS = (
    "the an of to and in is it this that was for on with as not be but are you he she they good "
    "bad great film movie story what who how when where which why name city"
).split()


def wordpiece_vocabulary() -> list[str]:
    """Special tokens, letters, digits, punctuation and common words: any English text fits."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return [*special, *letters, *".,?!'-", *("##" + letter for letter in letters), *WORDS]


def byte_vocabulary() -> list[str]:
    """The special tokens of RoBERTa and the 256 letters of the byte-level alphabet."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return ["<s>", "<pad>", "</s>", "<unk>", *alphabet, "<mask>"]


def vocabulary(backbone: str) -> list[str]:
    """The tokens of `backbone` in the order of their ids."""
    return byte_vocabulary() if backbone == "roberta" else wordpiece_vocabulary()


def fast_tokenizer(backbone: str) -> Tokenizer:
    """What `tokenizer.json` holds: lower-cased WordPiece, or byte-level BPE for RoBERTa."""
    ids = {token: i for i, token in enumerate(vocabulary(backbone))}
    if backbone == "roberta":
        tokenizer = Tokenizer(models.BPE(ids, [], unk_token="<unk>"))
        tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), add_prefix_space=False
        )
        return tokenizer
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return tokenizer


def write_tokenizer(folder: Path, backbone: str, kind: str | None) -> None:
    """Write `kind` of tokenizer: "fast" (tokenizer.json), "slow" (the older files), or none."""
    if kind is None:
        return
    tokens = vocabulary(backbone)
    classes = {"bert": "BertTokenizer", "roberta": "RobertaTokenizer", "albert": "BertTokenizer"}
    settings = {"tokenizer_class": classes[backbone], "model_max_length": MAX_TOKENS}
    if kind == "fast":
        fast_tokenizer(backbone).save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    elif backbone == "roberta":
        ids = {token: i for i, token in enumerate(tokens)}
        (folder / "vocab.json").write_text(json.dumps(ids))
        (folder / "merges.txt").write_text("#version: 0.2\n")
    else:
        (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
        if backbone == "albert":  # whose own class reads SentencePiece models
            declared = {"tokenizer_class": classes[backbone]}
            (folder / "tokenizer_config.json").write_text(json.dumps(declared))
        (folder / "special_tokens_map.json").write_text(
            json.dumps({"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]"})
        )
        (folder / "added_tokens.json").write_text("{}")


def random_rows(backbone: str, count: int, seed: int = 0) -> Iterator[list[int]]:
    """Yield `count` rows of token ids, 2 to `MAX_TOKENS` long, with the special tokens in place.

    One RoBERTa row in eight holds a pad token inside its text: only then do the two published
    ways to number positions differ.
    """
    rng = np.random.default_rng(seed)
    tokens = vocabulary(backbone)
    first, last = (0, 2) if backbone == "roberta" else (2, 3)
    for n in range(count):
        text = rng.integers(5, len(tokens) - 1, size=rng.integers(0, MAX_TOKENS - 1)).tolist()
        if backbone == "roberta" and n % 8 == 0 and len(text) > 2:
            text[len(text) // 2] = 1
        yield [first, *text, last]
