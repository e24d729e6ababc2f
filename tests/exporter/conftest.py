"""Tiny checkpoints: one of each for reading, and fresh copies to damage."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from export_command import contents, run_command, sentence


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run an export that must fail and leave no trace; returns its sentence."""

    def run(*arguments: object, code: int = 2) -> str:
        before = contents(tmp_path)
        outcome = run_command(capfd, *arguments)
        said = sentence(outcome)
        assert outcome.code == code, said
        assert contents(tmp_path) == before
        return said

    return run


@pytest.fixture(scope="session")
def pristine_deebert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DeeBERT checkpoint of three layers with its tokenizer; not to be changed."""
    from checkpoints import write_deebert  # which imports torch

    return write_deebert(tmp_path_factory.mktemp("deebert") / "c", layers=3, tokenizer="fast")


@pytest.fixture
def deebert(pristine_deebert: Path, tmp_path: Path) -> Path:
    """A copy of `pristine_deebert` that may be changed."""
    return shutil.copytree(pristine_deebert, tmp_path / "checkpoint")


@pytest.fixture(scope="session")
def pristine_plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain BERT classifier of two layers without a tokenizer; not to be changed."""
    from families import write_family  # which imports torch and transformers

    folder = tmp_path_factory.mktemp("plain") / "c"
    write_family(folder, "bert", "text-classification")
    return folder


@pytest.fixture
def plain(pristine_plain: Path, tmp_path: Path) -> Path:
    """A copy of `pristine_plain` that may be changed."""
    return shutil.copytree(pristine_plain, tmp_path / "checkpoint")
