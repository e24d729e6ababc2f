"""Small tokenizers of every family, trained on the spot, in the files that people have."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from vocabularies import wordpiece_vocabulary

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and naïve café owners don't care.",
    "Questions about the city: who, what, when, where, why and how many? 1234567890 times!",
    "Ein schöner Tag; una mañana fría. Привет, мир! 漢字かな交じり文 中文 😀 ½ ² ™",
    "I have been waiting for this film since 2019 - it was worth every minute (really).",
]
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz", "ABCXYZ", "0123456789", " ", "  \t\n",
    ".,;:!?'\"()[]{}<>-_/\\@#$%&*+=~^|`", "½²№™ﬁﷺＦＵ１", "😀👍🏽👩‍👩‍👧🇩🇪",
    "äöüßéèñçåøœıİ", "АБВабвΑΒΓαβγςאבגابت", "漢字中文かなカナ한국어ไทยनमस्ते",
    "\u0301\u030a\u0327\u200b\u200d\u00ad\ufeff\u202e", "\u0000\u0007\u001f\ufffd", "▁Ġ#",
)  # fmt: skip
MARKS = ("[CLS]", "[SEP]", "[MASK]", "[UNK]", "<s>", "</s>", "<mask>", "##ing", "don't", "e.g.")


class Family(NamedTuple):
    """A tokenizer's class in transformers, the model type, and what writes its own files."""

    declared: str
    model_type: str
    write: Callable[[Path], None]
    files: str


def odd_strings(count: int, seed: int = 0) -> list[str]:
    """Random mixtures of alphabets, special spellings, blanks and long words."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(draw.randint(0, 7)):
            kind = draw.random()
            if kind < 0.1:
                parts.append(draw.choice(MARKS))
            elif kind < 0.15:
                parts.append(draw.choice("aé漢1") * draw.choice((40, 99, 101)))
            elif kind < 0.4:
                parts.append(draw.choice(CORPUS)[: draw.randint(1, 30)])
            else:
                parts.append("".join(draw.choices(draw.choice(ALPHABETS), k=draw.randint(1, 9))))
        texts.append(draw.choice(("", " ")).join(parts))
    return texts


def write_vocab_txt(folder: Path, special: str = "[PAD] [UNK] [CLS] [SEP] [MASK]") -> None:
    tokens = [*special.split(), *wordpiece_vocabulary()[5:]]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")


def write_mpnet(folder: Path) -> None:
    write_vocab_txt(folder, "<s> <pad> </s> [UNK] <mask>")


@cache
def byte_bpe() -> tuple[str, str]:
    """vocab.json and merges.txt of a byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return json.dumps(model["vocab"]), "\n".join(["#version: 0.2", *merges]) + "\n"


def write_byte_bpe(folder: Path) -> None:
    vocabulary, merges = byte_bpe()
    (folder / "vocab.json").write_text(vocabulary)
    (folder / "merges.txt").write_text(merges, encoding="utf-8")


@cache
def sentencepiece_model(special: tuple[tuple[str, Any], ...]) -> bytes:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=written,
        vocab_size=200,
        hard_vocab_limit=False,
        minloglevel=2,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in special},
    )
    return written.getvalue()


def write_sentencepiece(name: str, **special: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(sentencepiece_model(tuple(special.items())))

    return write


OF_ALBERT = {
    "pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1,
    "control_symbols": ("[CLS]", "[SEP]", "[MASK]"),
}  # fmt: skip
OF_DEBERTA = {
    "pad_id": 0, "unk_id": 3, "bos_id": 1, "eos_id": 2,
    "pad_piece": "[PAD]", "unk_piece": "[UNK]", "bos_piece": "[CLS]", "eos_piece": "[SEP]",
}  # fmt: skip
FAMILIES = {
    "bert": Family("BertTokenizer", "bert", write_vocab_txt, "vocab.txt"),
    "distilbert": Family("DistilBertTokenizer", "distilbert", write_vocab_txt, "vocab.txt"),
    "electra": Family("ElectraTokenizer", "electra", write_vocab_txt, "vocab.txt"),
    "mpnet": Family("MPNetTokenizer", "mpnet", write_mpnet, "vocab.txt"),
    "roberta": Family("RobertaTokenizer", "roberta", write_byte_bpe, "vocab.json merges.txt"),
    "albert": Family(
        "AlbertTokenizer",
        "albert",
        write_sentencepiece("spiece.model", **OF_ALBERT),
        "spiece.model",
    ),
    "xlm-roberta": Family(
        "XLMRobertaTokenizer",
        "xlm-roberta",
        write_sentencepiece("sentencepiece.bpe.model"),
        "sentencepiece.bpe.model",
    ),
    "deberta-v2": Family(
        "DebertaV2Tokenizer",
        "deberta-v2",
        write_sentencepiece("spm.model", **OF_DEBERTA),
        "spm.model",
    ),
    "modernbert": Family("PreTrainedTokenizerFast", "modernbert", write_byte_bpe, "tokenizer.json"),
}  # fmt: skip
DECLARED = ("tokenizer_config.json", "config.json", "nowhere")
LAYOUTS = ("own files", "tokenizer.json")


def write_files(folder: Path, family: str, layout: str, declared: str, **settings: Any) -> Path:
    """Write a tokenizer and a config.json.

    Args:
        folder: Is made.
        family: One of `FAMILIES`.
        layout: "own files" are those of the first releases of its models.
        declared: Where the class is named.
        settings: More of tokenizer_config.json.
    """
    known = FAMILIES[family]
    folder.mkdir(parents=True)
    known.write(folder)
    config = {"model_type": known.model_type}
    if declared == "config.json":
        config["tokenizer_class"] = known.declared
    if declared == "tokenizer_config.json":
        settings["tokenizer_class"] = known.declared
    if layout == "tokenizer.json" or family == "modernbert":
        as_tokenizer_json(folder, family)
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def as_tokenizer_json(folder: Path, family: str) -> None:
    """Put tokenizer.json in the place of the other files, as save_pretrained does."""
    import transformers

    names = dict.fromkeys(("distilbert", "electra"), "BertTokenizer")
    names["modernbert"] = "RobertaTokenizer"
    kind = getattr(transformers, names.get(family, FAMILIES[family].declared))
    text = kind.from_pretrained(str(folder)).backend_tokenizer.to_str()
    for path in folder.iterdir():
        path.unlink()
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
