"""Where the files of a tokenizer contradict what transformers made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from effbert.exporter.checkpoints.settings_file import read_settings

ROLES = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
PROBES = ("a Word", "ÉCOLE naïve", "漢字 中文", "don't 3.5", "one  two", "x [MASK] <mask> y")


def contradictions(folder: Path, own: Any) -> list[str]:
    """Compare each file with the tokenizer that was built; transformers' choice is used.

    Args:
        folder: Of the files.
        own: What transformers built from them.

    Returns:
        A sentence for each contradiction.
    """
    return [
        f"{folder / file} {said}; the bundle follows transformers."
        for file, said in (
            *_declared(folder, own),
            *_tokens(folder, own),
            *_casing(folder, own),
            *_tokenizer_json(folder, own),
            *_vocabulary(folder, own),
        )
    ]


def _declared(folder: Path, own: Any) -> Iterator[tuple[str, str]]:
    named = {
        file: read_settings(folder / file).get("tokenizer_class")
        for file in ("tokenizer_config.json", "config.json")
    }
    plain = {file: str(name).removesuffix("Fast") for file, name in named.items() if name}
    if len(set(plain.values())) > 1:
        used = type(own).__name__
        for file, name in plain.items():
            if name != used:
                yield file, f"declares {name}, another file does not, and {used} is used"


def _tokens(folder: Path, own: Any) -> Iterator[tuple[str, str]]:
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        fields = read_settings(folder / file)
        for role in ROLES:
            value = fields.get(role)
            spelled = value.get("content") if isinstance(value, dict) else value
            used = getattr(own, role, None)
            if isinstance(spelled, str) and used is not None and spelled != str(used):
                yield file, f"names {spelled} as {role}, but {used} is used"


def _casing(folder: Path, own: Any) -> Iterator[tuple[str, str]]:
    wanted = read_settings(folder / "tokenizer_config.json").get("do_lower_case")
    normalizer = own.backend_tokenizer.normalizer
    lowers = normalizer is not None and normalizer.normalize_str("A").strip("▁ ") == "a"
    if isinstance(wanted, bool) and wanted != lowers:
        said = "lower-cases texts" if lowers else "keeps the case of texts"
        yield (
            "tokenizer_config.json",
            f"says do_lower_case {wanted}, but {type(own).__name__} {said}",
        )


def _tokenizer_json(folder: Path, own: Any) -> Iterator[tuple[str, str]]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    try:
        alone = Tokenizer.from_file(str(path))
        alone.no_padding()
        alone.no_truncation()
        alone.encode_special_tokens = own.split_special_tokens
        read = [alone.encode(text).ids for text in PROBES]
    except Exception:  # the tokenizers library raises bare Exception
        yield path.name, f"cannot be read alone, as {type(own).__name__} reads it"
        return
    for text, ids in zip(PROBES, read, strict=True):
        used = list(own(text)["input_ids"])
        if ids != used:
            kind = f"{type(own).__name__} with the settings beside it"
            yield path.name, f"alone reads {text!r} as {ids[:12]}, {kind} as {used[:12]}"
            return


def _vocabulary(folder: Path, own: Any) -> Iterator[tuple[str, str]]:
    """Look at the vocabularies that tokenizer.json makes superfluous."""
    if not (folder / "tokenizer.json").is_file():
        return
    used = own.get_vocab()
    lines = folder / "vocab.txt"
    if lines.is_file() and lines.stat().st_size < 1 << 26:
        words = lines.read_text("utf-8", errors="replace").split("\n")
        if any(used.get(word) != number for number, word in enumerate(words) if word):
            yield lines.name, "holds another vocabulary than tokenizer.json"
    table = read_settings(folder / "vocab.json")
    if any(used.get(word) != number for word, number in table.items()):
        yield "vocab.json", "holds another vocabulary than tokenizer.json"
