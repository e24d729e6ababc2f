"""Find a checkpoint's tokenizer and turn it into one tokenizer.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from effbert.exporter.reason import short_reason
from effbert.runtime.bundle.manifest import Limits
from effbert.runtime.bundle.manifest import Tokenizer as TokenizerRecord
from effbert.runtime.errors import CheckpointError

TOKENIZER_NAME = "tokenizer.json"
VOCABULARIES = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
SPECIAL = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class FoundTokenizer:
    """The bytes of tokenizer.json, and what the manifest says about them."""

    data: bytes
    record: TokenizerRecord


def find_tokenizer(folder: Path, model_type: str, limits: Limits) -> FoundTokenizer | None:
    """Read tokenizer.json, or convert the vocabulary files of an older checkpoint.

    Args:
        folder: Where the tokenizer files are.
        model_type: The encoder family, for vocabularies that do not say what they are.
        limits: The model's; they bound the tokenizer's length and ids.

    Returns:
        None where the folder has no tokenizer at all.

    Raises:
        CheckpointError: A tokenizer is there but cannot be read, or yields ids the model lacks.
    """
    path = folder / TOKENIZER_NAME
    slow = any((folder / name).is_file() for name in VOCABULARIES)
    if not path.is_file() and not slow:
        return None
    try:
        text = path.read_text("utf-8") if path.is_file() else _convert(folder, model_type)
        tokenizer = Tokenizer.from_str(text)
        tokenizer.encode("a word")  # where a vocabulary lacks what its model needs
    except CheckpointError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(
            f"{folder if slow else path} holds a tokenizer that cannot be used: "
            f"{short_reason(error)}; save it again, or name another folder with --tokenizer DIR."
        ) from error
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    if not 1 <= size <= limits.vocab_size:
        raise CheckpointError(
            f"{folder} has a tokenizer of {size} tokens but the model knows {limits.vocab_size}; "
            "pass the right one with --tokenizer DIR."
        )
    settings = _settings(folder)
    length = settings.get("model_max_length")
    length = length if isinstance(length, int | float) and length >= 2 else limits.max_length
    return FoundTokenizer(
        text.encode(),
        TokenizerRecord(
            file=TOKENIZER_NAME,
            vocab_size=size,
            max_length=int(min(length, limits.max_length)),
            special_ids=_special_ids(tokenizer, settings),
        ),
    )


def _convert(folder: Path, model_type: str) -> str:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), tokenizer_type=model_type, trust_remote_code=False, local_files_only=True
        )
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # transformers raises many kinds, all meaning the same to a user
        raise CheckpointError(
            f"{folder} has vocabulary files that transformers cannot turn into a tokenizer "
            f"({short_reason(error)}); save tokenizer.json beside them, or name a folder with "
            "--tokenizer DIR."
        ) from error


def _settings(folder: Path) -> dict[str, object]:
    path = folder / "tokenizer_config.json"
    try:
        settings = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {short_reason(error)}.") from error
    return settings if isinstance(settings, dict) else {}


def _special_ids(tokenizer: Tokenizer, settings: dict[str, object]) -> dict[str, int]:
    """Ids of the special tokens, by the settings or by their usual spellings."""
    usual = {
        "unk_token": ("[UNK]", "<unk>"),
        "sep_token": ("[SEP]", "</s>"),
        "pad_token": ("[PAD]", "<pad>"),
        "cls_token": ("[CLS]", "<s>"),
        "mask_token": ("[MASK]", "<mask>"),
    }
    found: dict[str, int] = {}
    for role in SPECIAL:
        named = settings.get(role)
        named = named.get("content") if isinstance(named, dict) else named
        for token in (named, *usual[role]):
            if isinstance(token, str) and (number := tokenizer.token_to_id(token)) is not None:
                found[token] = number
                break
    return found
