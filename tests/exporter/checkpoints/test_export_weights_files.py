"""Weights and settings that carry code or lies, and all places weights may lie in."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import hostile_weights
from checkpoints import write_hostile_pickle, write_noise
from effbert.exporter import export
from effbert.runtime.errors import CheckpointError
from export_command import contents
from hostile_weights import CLAIMS

Refused = Callable[..., str]


@pytest.fixture
def empty(deebert: Path) -> Path:
    """A DeeBERT checkpoint without weights."""
    (deebert / "model.safetensors").unlink()
    return deebert


def load(checkpoint: Path | str) -> Any:
    """Detect and load; the bundle is not written."""
    return export(checkpoint, "bundle", dry_run=True)


class Compile:
    """Unpickling it calls a function of Python that torch never allows."""

    def __reduce__(self) -> tuple[Any, ...]:
        return compile, ("1", "x", "eval")


# --- code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "weights.pth", "weights.th"])
@pytest.mark.parametrize("direct", [False, True], ids=["folder", "file"])
def test_a_pickle_with_code_is_not_run(
    refused: Refused, empty: Path, tmp_path: Path, name: str, direct: bool
) -> None:
    write_hostile_pickle(empty / name, tmp_path / "touched")
    said = refused(empty / name if direct else empty, tmp_path / "bundle")
    assert str(empty / name) in said
    assert "code in it, which effbert never runs" in said
    assert not (tmp_path / "touched").exists()


def test_a_torch_file_with_code_is_not_run(refused: Refused, empty: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "b": Compile()}, empty / "pytorch_model.bin")
    assert "code in it" in refused(empty, tmp_path / "bundle")


def test_code_hidden_in_a_shard_is_not_run(refused: Refused, empty: Path, tmp_path: Path) -> None:
    write_hostile_pickle(empty / "shard.bin", tmp_path / "touched")
    index = {"weight_map": {"a": "shard.bin"}}
    (empty / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "shard.bin could not be read" in refused(empty, tmp_path / "bundle")
    assert not (tmp_path / "touched").exists()


def write_module(folder: Path, name: str) -> None:
    """A Python file that leaves a mark where it is imported."""
    mark = folder.parent / "touched"
    (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\nclass Ghost: pass\n")


def test_code_named_by_the_config_is_not_run(
    refused: Refused, deebert: Path, tmp_path: Path
) -> None:
    write_module(deebert, "modeling_ghost")
    path = deebert / "config.json"
    automatic = {"auto_map": {"AutoModel": "modeling_ghost.Ghost"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | automatic))
    said = refused(deebert, tmp_path / "bundle")
    assert "auto_map" in said
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("kind", ["fast", "slow"])
def test_code_named_by_the_tokenizer_is_not_run(deebert: Path, kind: str) -> None:
    write_module(deebert, "tokenization_ghost")
    settings = {
        "auto_map": {"AutoTokenizer": ["tokenization_ghost.Ghost", "tokenization_ghost.Ghost"]},
        "tokenizer_class": "Ghost",
    }
    (deebert / "tokenizer_config.json").write_text(json.dumps(settings))
    if kind == "slow":
        (deebert / "tokenizer.json").unlink()
        (deebert / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    if kind == "slow":
        with pytest.raises(CheckpointError, match=r"\(Ghost\) that transformers cannot build"):
            load(deebert)
    else:
        found = load(deebert)
        assert found.tokenizer
        assert "its tokenizer_class Ghost is used" in found.notes[-1]
    assert not (deebert.parent / "touched").exists()


def test_what_training_left_behind_is_not_opened(deebert: Path) -> None:
    write_noise(deebert)
    assert load(deebert).description.format == "deebert"
    assert not (deebert / "pwned").exists()


# --- lies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        [torch.ones(2)],
        torch.ones(2),
        {1: torch.ones(2)},
        {"a": 1.0},
        {"a": torch.ones(2).to_sparse()},
        {"a": torch.empty(2, device="meta")},
    ],
    ids=["list", "tensor", "number", "value", "sparse", "meta"],
)
def test_files_that_hold_anything_but_tensors_by_name(
    refused: Refused, empty: Path, tmp_path: Path, content: Any
) -> None:
    torch.save(content, empty / "pytorch_model.bin")
    assert "is not a state_dict" in refused(empty, tmp_path / "bundle")


def test_a_whole_module_is_refused(refused: Refused, empty: Path, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), empty / "pytorch_model.bin")
    assert "could not be read as plain tensors" in refused(empty, tmp_path / "bundle")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"PK\x03\x04" + bytes(100), bytes(100), b"\x80\x02.", pickle.dumps({"a": 1})],
    ids=["empty", "two letters", "no zip", "zeros", "empty pickle", "numbers"],
)
def test_files_that_are_no_torch_files(
    refused: Refused, empty: Path, tmp_path: Path, content: bytes
) -> None:
    (empty / "pytorch_model.bin").write_bytes(content)
    assert str(empty / "pytorch_model.bin") in refused(empty, tmp_path / "bundle")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_torch_files_cut_short(
    refused: Refused, empty: Path, tmp_path: Path, zipped: bool, share: float
) -> None:
    path = empty / "pytorch_model.bin"
    tensors = {"classifier.weight": torch.randn(3, 32)}
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "it is damaged" in refused(empty, tmp_path / "bundle")


@pytest.mark.parametrize("claim", CLAIMS)
def test_torch_files_that_claim_more_than_they_hold(
    refused: Refused, empty: Path, tmp_path: Path, claim: str
) -> None:
    CLAIMS[claim](empty / "pytorch_model.bin")
    assert str(empty / "pytorch_model.bin") in refused(empty, tmp_path / "bundle")


WITH_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from hostile_weights import CLAIMS
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.runtime.errors import CheckpointError

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
checkpoint = Path(sys.argv[1])
for claim, write in CLAIMS.items():
    write(checkpoint / "pytorch_model.bin")
    try:
        open_checkpoint(checkpoint).load_tensors()
    except CheckpointError:
        print(claim)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_claims_are_refused_without_the_memory_they_claim(empty: Path) -> None:
    support = Path(hostile_weights.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", WITH_LITTLE_MEMORY, str(empty)],
        cwd=support,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == list(CLAIMS)


def test_a_safetensors_header_that_claims_more_than_the_file(
    refused: Refused, deebert: Path, tmp_path: Path
) -> None:
    path = deebert / "model.safetensors"
    path.write_bytes((10**17).to_bytes(8, "little") + b"{}")
    assert "is damaged" in refused(deebert, tmp_path / "bundle")


# --- places --------------------------------------------------------------------------------------


def move_to(checkpoint: Path, name: str, **options: Any) -> Path:
    """Store the weights as the file `name` instead."""
    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    if name.endswith(".safetensors"):
        save_file(tensors, checkpoint / name)
    else:
        torch.save(OrderedDict(tensors), checkpoint / name, **options)
    return checkpoint / name


def fingerprint(report: Any, checkpoint: Path) -> tuple[Any, ...]:
    assert not (checkpoint.parent / "bundle").exists()
    return report.plan.description, report.plan.policy, report.plan.tokenizer is not None


@pytest.fixture(scope="session")
def usual(pristine_deebert: Path) -> tuple[Any, ...]:
    return fingerprint(load(pristine_deebert), pristine_deebert)


@pytest.mark.parametrize("name", ["best.safetensors", "pytorch_model.bin", "x.pt", "x.pth", "x.th"])
@pytest.mark.parametrize("direct", [False, True], ids=["folder", "file"])
def test_weights_by_any_name(usual: Any, deebert: Path, name: str, direct: bool) -> None:
    path = move_to(deebert, name)
    assert fingerprint(load(path if direct else deebert), deebert) == usual


def test_torch_files_of_before_the_zip_layout(usual: Any, deebert: Path) -> None:
    move_to(deebert, "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert fingerprint(load(deebert), deebert) == usual


def test_one_file_of_several_can_be_named(usual: Any, deebert: Path) -> None:
    move_to(deebert, "last.safetensors")
    shutil.copy(deebert / "last.safetensors", deebert / "best.safetensors")
    assert fingerprint(load(deebert / "best.safetensors"), deebert) == usual


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_weights_in_shards(usual: Any, deebert: Path, suffix: str) -> None:
    tensors = load_file(deebert / "model.safetensors")
    (deebert / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05d}-of-00002.{suffix}"
        save = save_file if suffix == "safetensors" else torch.save
        save({name: tensors[name] for name in part}, deebert / shard)
        places |= dict.fromkeys(part, shard)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    index = {"metadata": {}, "weight_map": places}
    (deebert / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    assert fingerprint(load(deebert), deebert) == usual


def test_names_left_by_data_parallel_training(usual: Any, deebert: Path) -> None:
    path = deebert / "model.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in load_file(path).items()}, path)
    assert fingerprint(load(deebert), deebert) == usual


def test_links_to_weights_elsewhere_are_followed(usual: Any, deebert: Path) -> None:
    stored = deebert.parent / "blob"
    (deebert / "model.safetensors").rename(stored)
    (deebert / "model.safetensors").symlink_to(stored)
    assert fingerprint(load(deebert), deebert) == usual


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a hub that cannot be reached."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


@pytest.mark.parametrize("name", ["someone/ghost", "ghost"])
def test_a_hub_id_without_the_hub(
    refused: Refused, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(name, tmp_path / "bundle")
    assert said.startswith(f"{name} is neither a folder nor a file here")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_id_in_the_cache(
    usual: Any, hub: Path, deebert: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    monkeypatch.chdir(deebert.parent)
    if weights != "model.safetensors":
        move_to(deebert, weights)
    folder = hub / "models--someone--deebert"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    shutil.copytree(deebert, folder / "snapshots" / ("0" * 40))
    before = contents(deebert.parent)
    assert fingerprint(load("someone/deebert"), deebert) == usual
    assert contents(deebert.parent) == before
