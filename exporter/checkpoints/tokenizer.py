"""The tokenizer that transformers builds for a checkpoint, as one tokenizer.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from effbert.exporter.checkpoints.contradictions import contradictions
from effbert.exporter.checkpoints.settings_file import read_settings
from effbert.exporter.quiet import quietly
from effbert.exporter.reason import short_reason
from effbert.runtime.bundle.manifest import Limits
from effbert.runtime.bundle.manifest import Tokenizer as TokenizerRecord
from effbert.runtime.errors import CheckpointError

TOKENIZER_NAME = "tokenizer.json"
SETTINGS_NAME = "tokenizer_config.json"
# Vocabularies, whatever their class, and the settings that save_pretrained writes beside them.
SIGNS = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*.txt", "vocab*.json",
    "vocab*.bpe", "merges*.txt", "bpe.codes", "dict.txt", "*.model", "*.spm", "*.vocab",
    "*.tiktoken", "entity_vocab.json", "emoji.json",
)  # fmt: skip
SPECIAL = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
WAY_OUT = (
    "name the folder of another tokenizer with --tokenizer DIR, or export for token ids only with "
    "--no-tokenizer"
)


@dataclass(frozen=True)
class FoundTokenizer:
    """A tokenizer for the bundle.

    Attributes:
        data: The bytes of tokenizer.json.
        record: What the manifest says about them.
        own: The checkpoint's tokenizer, as transformers built it.
        notes: Sentences for the user: contradictions in its files.
    """

    data: bytes
    record: TokenizerRecord
    own: Any
    notes: tuple[str, ...] = ()


def find_tokenizer(
    folder: Path, config: Mapping[str, Any], architecture: str, limits: Limits
) -> FoundTokenizer | None:
    """Build what transformers builds for a folder: the class that its files declare comes first.

    Args:
        folder: Where the tokenizer files are.
        config: The checkpoint's config.json, for a folder that has none.
        architecture: The encoder family, for files that declare no class.
        limits: The model's; they bound the tokenizer's length and ids.

    Returns:
        None where the folder has no tokenizer files at all.

    Raises:
        CheckpointError: A tokenizer is there but cannot be built, has no equal form in the
            tokenizers library, or yields ids that the model lacks.
    """
    if not any(path.is_file() for sign in SIGNS for path in folder.glob(sign)):
        return None
    settings = read_settings(folder / SETTINGS_NAME)
    own, notes = _build(folder, settings, config, architecture, limits)
    _require_files(folder, own)
    data = own.backend_tokenizer.to_str()
    size = max(own.get_vocab().values(), default=-1) + 1
    if not 1 <= size <= limits.vocab_size:
        raise CheckpointError(
            f"{folder} has a tokenizer of {size} tokens but the model knows {limits.vocab_size}; "
            "pass the right one with --tokenizer DIR."
        )
    length = own.model_max_length
    length = length if length >= 2 else limits.max_length
    record = TokenizerRecord(
        file=TOKENIZER_NAME,
        vocab_size=size,
        max_length=int(min(length, limits.max_length)),
        special_ids=_special_ids(own),
        truncation_side="left" if own.truncation_side == "left" else "right",
        special_tokens_in_text=not own.split_special_tokens,
        token_types="token_type_ids" in own.model_input_names,
    )
    notes += [*contradictions(folder, own), *_remarks(folder, own, limits)]
    return FoundTokenizer(data.encode(), record, own, tuple(notes))


def _build(
    folder: Path,
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    architecture: str,
    limits: Limits,
) -> tuple[Any, list[str]]:
    """Ask transformers; where nothing is declared and its class fails, tokenizer.json decides."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    beside = folder / "config.json"
    fields = read_settings(beside) if beside.is_file() else config
    declared = settings.get("tokenizer_class") or fields.get("tokenizer_class")
    options = {"local_files_only": True, "trust_remote_code": False}
    notes = [_remote_code(folder, declared)] if "auto_map" in settings else []
    try:
        with quietly():
            built = _config(fields, fields is config, architecture)
            own = AutoTokenizer.from_pretrained(str(folder), config=built, **options)
            if not isinstance(own.model_max_length, int | float):
                own.model_max_length = limits.max_length
            own("a word")  # where a vocabulary lacks what its model needs
    except Exception as error:  # transformers raises many kinds, all meaning the same to a user
        if declared or not (folder / TOKENIZER_NAME).is_file():
            raise _unusable(folder, declared, error) from error
        try:
            with quietly():
                own = PreTrainedTokenizerFast.from_pretrained(str(folder), **options)
                own("a word")
        except Exception:
            raise _unusable(folder, TOKENIZER_NAME, error) from error
        notes.append(
            f"transformers' tokenizer of a {architecture} cannot read {folder / TOKENIZER_NAME}, "
            "and no file declares another class; it is used as it is."
        )
    if not isinstance(getattr(own, "backend_tokenizer", None), Tokenizer):
        raise CheckpointError(
            f"{folder} is for {type(own).__name__}, which has no equal form in the tokenizers "
            f"library; {WAY_OUT}."
        )
    return own, notes


def _unusable(folder: Path, declared: object, error: BaseException) -> CheckpointError:
    named = f" ({declared})" if declared else ""
    reason = short_reason(error)
    if "instantiate the backend tokenizer" in str(error):  # several lines that name no file
        reason = "it knows no such class, or finds none of its files"
    file = folder / TOKENIZER_NAME
    where = file if file.is_file() else folder
    return CheckpointError(
        f"{where} holds a tokenizer{named} that transformers cannot build: {reason}; save it "
        f"again with save_pretrained, or {WAY_OUT}."
    )


def _remote_code(folder: Path, declared: object) -> str:
    if not declared:
        raise CheckpointError(
            f"{folder / SETTINGS_NAME} asks for code from the checkpoint (auto_map), which effbert "
            f"never runs, and declares no tokenizer_class; {WAY_OUT}."
        )
    return (
        f"{folder / SETTINGS_NAME} asks for code from the checkpoint (auto_map), which effbert "
        f"never runs; its tokenizer_class {declared} is used, as transformers does without "
        "trust_remote_code."
    )


def _config(fields: Mapping[str, Any], elsewhere: bool, architecture: str) -> Any:
    """Return None where the folder says its model type; else a config that says it."""
    from transformers import CONFIG_MAPPING

    named = fields.get("model_type") in CONFIG_MAPPING
    if named and not elsewhere:
        return None
    built = CONFIG_MAPPING[fields["model_type"] if named else architecture]()
    built.tokenizer_class = fields.get("tokenizer_class")
    return built


def _require_files(folder: Path, own: Any) -> None:
    """Refuse the empty vocabulary that transformers makes up where the class finds no file."""
    names = dict(own.vocab_files_names)
    if (folder / names.pop("tokenizer_file", TOKENIZER_NAME)).is_file():
        return
    missing = [name for name in names.values() if not (folder / name).is_file()]
    if missing:
        there = sorted({path.name for sign in SIGNS for path in folder.glob(sign)})
        raise CheckpointError(
            f"{folder} is read as {type(own).__name__}, whose {' and '.join(missing)} is missing "
            f"(found: {', '.join(there)}); declare the right tokenizer_class in {SETTINGS_NAME}, "
            f"or {WAY_OUT}."
        )


def _special_ids(own: Any) -> dict[str, int]:
    """Ids of the special tokens by their spelling."""
    vocabulary = own.get_vocab()
    spelled = (str(getattr(own, role)) for role in SPECIAL if getattr(own, role, None) is not None)
    return {token: vocabulary[token] for token in spelled if token in vocabulary}


def _remarks(folder: Path, own: Any, limits: Limits) -> list[str]:
    """Say what of the settings does not reach the bundle as it is."""
    found = []
    if own.padding_side == "left":
        found.append(
            f"The tokenizer of {folder} pads on the left; the bundle pads on the right, and a "
            "padded row is answered as the same row alone."
        )
    pad = own.pad_token_id
    if pad is not None and pad != limits.pad_id:
        found.append(
            f"The tokenizer of {folder} pads with id {pad}, config.json names "
            f"{limits.pad_id} as pad_token_id; the bundle pads with {limits.pad_id}, which its "
            "model does not read."
        )
    return found
