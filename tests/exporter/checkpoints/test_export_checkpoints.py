"""Checkpoints that cannot be used: one sentence, the right exit code, nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

Refused = Callable[..., str]


def edit_config(folder: Path, **fields: Any) -> None:
    """Set fields of config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_tensors(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Set tensors, their dots written as double underscores; None removes one."""
    path = folder / "model.safetensors"
    edited = load_file(path) | {name.replace("__", "."): t for name, t in tensors.items()}
    save_file({name: t for name, t in edited.items() if t is not None}, path)


def test_a_path_that_does_not_exist(refused: Refused, tmp_path: Path) -> None:
    said = refused(tmp_path / "nowhere", tmp_path / "bundle")
    assert f"{tmp_path / 'nowhere'} does not exist" in said


@pytest.mark.parametrize("name", ["", "a b", "../x", "https://huggingface.co/x/y", "model.bin"])
def test_names_that_are_neither_paths_nor_hub_ids(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(name, tmp_path / "bundle")


def test_a_file_that_is_not_weights(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    said = refused(tmp_path / "notes.txt", tmp_path / "bundle")
    assert "notes.txt is not a weights file" in said
    assert "*.safetensors" in said


def test_a_device_is_not_read(refused: Refused, tmp_path: Path) -> None:
    refused("/dev/zero", tmp_path / "bundle")


def test_a_folder_without_config(refused: Refused, deebert: Path, tmp_path: Path) -> None:
    (deebert / "config.json").unlink()
    assert "has no config.json" in refused(deebert, tmp_path / "bundle")


@pytest.mark.parametrize(
    "config, said",
    [
        (b"", "not valid JSON"),
        (b"{'model_type': 'bert'}", "not valid JSON"),
        (b'{"a": ' + b"[" * 200_000, "not valid JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[]", "must hold a JSON object"),
        (b"12", "must hold a JSON object"),
        (b'{"a": "' + b"x" * (1 << 22) + b'"}', "larger than"),
    ],
    ids=["empty", "python", "unclosed", "deep", "binary", "list", "number", "huge"],
)
def test_a_config_that_is_not_an_object(
    refused: Refused, deebert: Path, tmp_path: Path, config: bytes, said: str
) -> None:
    (deebert / "config.json").write_bytes(config)
    sentence = refused(deebert, tmp_path / "bundle")
    assert str(deebert / "config.json") in sentence
    assert said in sentence


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"model_type": "ghost"}, "does not know model type ghost"),
        ({"model_type": None}, "model_type"),
        ({"model_type": 7}, "model_type"),
        ({"model_type": "gpt2"}, "decoder"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"hidden_size": 31}, "config.json"),
        ({"hidden_size": -32}, "config.json"),
        ({"hidden_size": 64}, "config.json"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"num_hidden_layers": 0}, "config.json"),
        ({"num_hidden_layers": 3}, "lacks"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers"),
        ({"vocab_size": 7}, "config.json"),
        ({"vocab_size": 0}, "config.json"),
        ({"max_position_embeddings": 10**13}, "config.json"),
        ({"hidden_act": "ghost"}, "ghost"),
        ({"id2label": ["a", "b"]}, "config.json"),
        ({"id2label": {"a": "b"}}, "config.json"),
        ({"num_hidden_layers": 10**9}, "asks for 1000000000 layers"),
        ({"num_hidden_layers": 0}, "asks for 0 layers"),
        ({"num_hidden_layers": -1}, "asks for -1 layers"),
        ({"architectures": "BertModel"}, "architectures must be a list"),
        ({"architectures": [5]}, "architectures must be a list"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
        ({"problem_type": "ghost"}, "ghost"),
        ({"pad_token_id": 100_000}, "Padding_idx must be within"),
        ({"pad_token_id": "x"}, "pad_token_id"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized"),
    ],
    ids=str,
)
def test_a_config_that_describes_no_such_model(
    refused: Refused, plain: Path, tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    edit_config(plain, **fields)
    sentence = refused(plain, tmp_path / "bundle")
    assert said in sentence, sentence


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "ghost"},
        {"model_type": "gpt2"},
        {"model_type": "t5"},
        {"hidden_size": 31},
        {"hidden_size": 64},
        {"num_attention_heads": 0},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 2},
        {"num_hidden_layers": 4},
        {"vocab_size": 7},
        {"architectures": 5},
        {"pad_token_id": 100_000},
        {"id2label": 3},
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_the_highways(
    refused: Refused, deebert: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    edit_config(deebert, **fields)
    assert "checkpoint" in refused(deebert, tmp_path / "bundle")


HIGHWAY = "bert.encoder.highway.1"


@pytest.mark.parametrize(
    "edits, said",
    [
        (
            {f"{HIGHWAY}.classifier.weight": (4, 32)},
            f"{HIGHWAY}.classifier.weight has shape [4, 32]",
        ),
        ({f"{HIGHWAY}.classifier.bias": (4,)}, f"{HIGHWAY}.classifier.bias has shape [4]"),
        ({f"{HIGHWAY}.classifier.weight": None}, f"no tensor {HIGHWAY}.classifier.weight"),
        ({f"{HIGHWAY}.pooler.dense.weight": (16, 32)}, f"{HIGHWAY}.pooler.dense.weight has shape"),
        ({f"{HIGHWAY}.pooler.dense.bias": None}, f"no tensor {HIGHWAY}.pooler.dense.bias"),
        ({"classifier.weight": (3, 16)}, "classifier.weight has shape [3, 16], expected [3, 32]"),
        ({"classifier.weight": (96,)}, "classifier.weight has shape [96], expected"),
        ({"classifier.weight": ()}, "classifier.weight has shape []"),
        ({"classifier.weight": (0, 32), "classifier.bias": (0,)}, "classifier.weight is empty"),
        ({"classifier.bias": None}, "no tensor classifier.bias"),
        ({"bert.encoder.layer.1.output.dense.weight": None}, "layer.1.output.dense.weight"),
        ({"bert.embeddings.word_embeddings.weight": (3, 32)}, "word_embeddings.weight"),
        ({"bert.encoder.layer.1.output.dense.weight": (32, 8)}, "layer.1.output.dense.weight"),
    ],
    ids=str,
)
def test_tensors_of_the_wrong_shape_or_missing_are_named(
    refused: Refused,
    deebert: Path,
    tmp_path: Path,
    edits: dict[str, tuple[int, ...] | None],
    said: str,
) -> None:
    edit_tensors(
        deebert,
        **{
            name.replace(".", "__"): None if shape is None else torch.zeros(shape)
            for name, shape in edits.items()
        },
    )
    sentence = refused(deebert, tmp_path / "bundle")
    assert said in sentence, sentence


def test_weights_that_are_not_numbers_are_refused(
    refused: Refused, plain: Path, tmp_path: Path
) -> None:
    edit_tensors(plain, classifier__weight=torch.full((3, 32), torch.nan))
    assert "not finite at exit 0" in refused(plain, tmp_path / "bundle")


def integers(checkpoint: Path) -> None:
    edit_tensors(checkpoint, classifier__weight=torch.ones(3, 32, dtype=torch.int8))


def test_a_head_of_integers_is_refused(refused: Refused, deebert: Path, tmp_path: Path) -> None:
    integers(deebert)
    assert "classifier.weight holds int8" in refused(deebert, tmp_path / "bundle")


def test_plain_weights_of_integers_are_refused(
    refused: Refused, plain: Path, tmp_path: Path
) -> None:
    integers(plain)
    assert "classifier.weight holds int8" in refused(plain, tmp_path / "bundle")


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1], ids=lambda kept: f"{kept} bytes")
def test_safetensors_cut_short(refused: Refused, deebert: Path, tmp_path: Path, kept: int) -> None:
    path = deebert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    said = refused(deebert, tmp_path / "bundle")
    assert str(path) in said
    assert "damaged" in said


def test_a_folder_with_two_weights_files_is_ambiguous(
    refused: Refused, deebert: Path, tmp_path: Path
) -> None:
    (deebert / "model.safetensors").rename(deebert / "step-100.safetensors")
    (deebert / "step-200.safetensors").write_bytes((deebert / "step-100.safetensors").read_bytes())
    said = refused(deebert, tmp_path / "bundle")
    assert "step-100.safetensors, step-200.safetensors" in said


def test_a_folder_without_weights(refused: Refused, deebert: Path, tmp_path: Path) -> None:
    (deebert / "model.safetensors").unlink()
    assert "holds no weights" in refused(deebert, tmp_path / "bundle")


@pytest.mark.parametrize(
    "index, said",
    [
        (b"{", "not a valid index"),
        (b"[]", "not a valid index"),
        (b'{"weight_map": 5}', "not a valid index"),
        (b'{"weight_map": {}}', "names no weights files"),
        (b'{"weight_map": {"a": 5}}', "not a plain file name"),
        (b'{"weight_map": {"a": [1]}}', "not a valid index"),
        (b'{"weight_map": {"a": "../outside.safetensors"}}', "not a plain file name"),
        (b'{"weight_map": {"a": "/etc/passwd"}}', "not a plain file name"),
        (b'{"weight_map": {"a": "sub/model.safetensors"}}', "not a plain file name"),
        (b'{"weight_map": {"a": ".."}}', "not a plain file name"),
        (b'{"weight_map": {"a": "gone.safetensors"}}', "gone.safetensors, which is missing"),
        (b'{"weight_map": {"a": "config.json"}}', "config.json"),
        (b'{"weight_map": {"a": ' + b"[" * 100_000, "not a valid index"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else "",
)
def test_an_index_of_shards_that_cannot_be_followed(
    refused: Refused, deebert: Path, tmp_path: Path, index: bytes, said: str
) -> None:
    (deebert / "model.safetensors").rename(tmp_path / "outside.safetensors")
    (deebert / "model.safetensors.index.json").write_bytes(index)
    sentence = refused(deebert, tmp_path / "bundle")
    assert said in sentence, sentence


@pytest.mark.parametrize(
    "edits, said",
    [({"bert.pooler.dense.weight": None}, "bert.pooler.dense.weight")],
)
def test_a_plain_checkpoint_that_lacks_tensors(
    refused: Refused, plain: Path, tmp_path: Path, edits: dict[str, None], said: str
) -> None:
    edit_tensors(plain, **{name.replace(".", "__"): t for name, t in edits.items()})
    assert said in refused(plain, tmp_path / "bundle")
