"""The sentences that ship with effbert never fail a user's model, however little it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from effbert.exporter import export
from effbert.runtime.checks.replay import validate
from effbert.runtime.errors import CheckpointError
from families import TASKS, write_family
from matrices import slow_but
from systems.sentee_checkpoint import write_sentee
from vocabularies import vocabulary, write_tokenizer


def pieces(folder: Path) -> None:
    """Many tokens a word."""
    write_tokenizer(folder, "bert", "fast")


def bytes_(folder: Path) -> None:
    """Four special tokens around a pair."""
    write_tokenizer(folder, "roberta", "fast")


def unknown(folder: Path) -> None:
    """Nothing but the unknown token."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def letter(folder: Path) -> None:
    """A token for one letter, none for all else."""
    Tokenizer(models.BPE({"a": 0}, [])).save(str(folder / "tokenizer.json"))


POSITIONS = (5, 8, 16, 64)
WRITERS = (("bert", pieces), ("roberta", bytes_), ("bert", unknown), ("bert", letter))
# Every number of positions with every tokenizer; the tasks take turns.
MODELS = {
    f"{family} of {positions} positions, {task}, {write.__name__}": (family, task, positions, write)
    for row, (family, write) in enumerate(WRITERS)
    for column, positions in enumerate(POSITIONS)
    for task in [[*TASKS][(row + column) % len(TASKS)]]
}
FAST = ("bert of 64 positions, text-classification, pieces",)


@pytest.mark.parametrize("name", slow_but(MODELS, *FAST))
def test_a_model_of_few_positions_or_tokens_is_exported(tmp_path: Path, name: str) -> None:
    family, task, positions, write = MODELS[name]
    _write(tmp_path / "c", family, task, positions, write)
    report = export(tmp_path / "c", tmp_path / "bundle")
    assert report.manifest.golden
    assert all(len(row.input_ids) <= positions for row in report.manifest.golden)
    assert validate(tmp_path / "bundle").rows == len(report.manifest.golden)


@pytest.mark.parametrize("task", slow_but(TASKS))
def test_int8_of_few_positions_is_calibrated(tmp_path: Path, task: str) -> None:
    _write(tmp_path / "c", "bert", task, 6, pieces)
    report = export(tmp_path / "c", tmp_path / "bundle", precision="int8", min_agreement=0.0)
    assert report.manifest.precision == "int8"


@pytest.mark.slow
def test_words_may_leave_alone_in_rows_of_few_tokens(tmp_path: Path) -> None:
    write_sentee(tmp_path / "c", layers=2, keep_norm_same=0, tokenizer="fast")
    assert export(tmp_path / "c", tmp_path / "bundle").manifest.golden


def test_a_model_without_room_for_a_row_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "c", "bert", "text-classification", 1, pieces)
    with pytest.raises(CheckpointError, match="takes 1 tokens at most, fewer than the 2"):
        export(tmp_path / "c", tmp_path / "bundle", dry_run=True)


def _write(
    folder: Path, family: str, task: str, positions: int, tokenizer: Callable[[Path], None]
) -> None:
    size = len(vocabulary("roberta" if family == "roberta" else "bert"))
    write_family(folder, family, task, max_position_embeddings=positions, vocab_size=size)
    tokenizer(folder)
