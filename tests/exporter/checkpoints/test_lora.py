"""LoRA in PEFT's layout is merged exactly; what cannot be merged is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats.recognise import recognise
from effbert.runtime.errors import CheckpointError
from weights_edits import Tensors, read_weights, write_weights

QUERY = "bert.encoder.layer.0.attention.self.query"
WORDS = "bert.embeddings.word_embeddings"
RANK = 4
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6}


def adapted(checkpoint: Path, layer: str = QUERY, **config: Any) -> tuple[Tensors, Tensors]:
    """Write a checkpoint as PEFT's model saves itself; returns the plain tensors, and LoRA's."""
    plain = read_weights(checkpoint)
    rows, columns = plain[f"{layer}.weight"].shape
    kind = "embedding_" if layer == WORDS else ""
    leaf = "" if kind else ".weight"
    a, b = (
        torch.randn(RANK, rows if kind else columns),
        torch.randn(columns if kind else rows, RANK),
    )
    lora = {f"{layer}.lora_{kind}A.default{leaf}": a, f"{layer}.lora_{kind}B.default{leaf}": b}
    peft = {k.replace(f"{layer}.", f"{layer}.base_layer."): t for k, t in plain.items()} | lora
    for part in ("weight", "bias"):
        peft[f"classifier.original_module.{part}"] = torch.zeros(3)
        peft[f"classifier.modules_to_save.default.{part}"] = peft.pop(f"classifier.{part}")
    write_weights(checkpoint, {f"base_model.model.{name}": t for name, t in peft.items()})
    (checkpoint / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    return plain, lora


@pytest.mark.parametrize(
    "config, scaling",
    [
        ({}, 6 / 4),
        ({"use_rslora": True}, 6 / 2),
        ({"alpha_pattern": {"self.query": 1}}, 1 / 4),
        ({"alpha_pattern": {"key": 1}, "rank_pattern": {"query": 4}, "r": 8}, 6 / 4),
    ],
)
@pytest.mark.parametrize("layer", [QUERY, WORDS])
def test_lora_is_merged_as_peft_does(
    plain: Path, config: dict[str, Any], scaling: float, layer: str
) -> None:
    if layer == WORDS and ("pattern" in str(config)):
        config = {name.replace("query", "word"): value for name, value in config.items()}
        config = json.loads(json.dumps(config).replace("self.query", "word_embeddings"))
        config = json.loads(json.dumps(config).replace('"query"', '"word_embeddings"'))
    before, lora = adapted(plain, layer, **config)
    opened, _ = recognise("auto", open_checkpoint(plain))
    tensors = opened.load_tensors()
    assert {*opened.shapes} == {*tensors} == {*before}
    a, b = lora.values()
    change = (b @ a).T if layer == WORDS else b @ a
    before[f"{layer}.weight"] = before[f"{layer}.weight"] + change * scaling
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_report_says_what_was_merged_and_replaced(deebert: Path, tmp_path: Path) -> None:
    adapted(deebert)
    assert export(deebert, tmp_path / "bundle", dry_run=True).notes == (
        "LoRA's matrices were merged into 1 weights (adapter_config.json).",
        "Left out: 2 tensors that fine-tuning replaced, such as classifier.original_module.bias.",
    )


@pytest.mark.parametrize(
    "config, said",
    [
        (None, "put the one that PEFT saved there"),
        ({"peft_type": "IA3"}, "not that of a LoRA"),
        ({"use_dora": True}, "use_dora"),
        ({"r": 8}, "has r 8 and lora_alpha 6"),
        ({"lora_alpha": "x"}, "lora_alpha 'x'"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "lora_alpha None"),
    ],
)
def test_an_unknown_scaling_is_refused(
    plain: Path, tmp_path: Path, config: dict[str, Any] | None, said: str
) -> None:
    adapted(plain, **(config or {}))
    if config is None:
        (plain / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        export(plain, tmp_path / "bundle", dry_run=True)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "name, said",
    [
        (f"{QUERY}.lora_magnitude_vector.default.weight", "DoRA's magnitudes"),
        (f"{QUERY}.ia3_l.default", "the vectors of IA3"),
        (f"{QUERY}.lora_A.other.weight", "several adapters"),
        (f"{QUERY}.lora_B.default.bias", "biases of LoRA"),
        (f"{QUERY}.lora_A", "as loralib saves it"),
        ("bert.gone.lora_A.default.weight", "is not there"),
        ("bert.encoder.layer.0.adapters.x.adapter_down.0.weight", "an adapter"),
        (f"{QUERY}.loras.x.lora_a", "LoRA"),
    ],
)
def test_what_cannot_be_merged_is_refused_by_its_name(
    plain: Path, tmp_path: Path, name: str, said: str
) -> None:
    adapted(plain)
    extra = {f"base_model.model.{name}": torch.ones(4, 4)}
    write_weights(plain, read_weights(plain) | extra)
    with pytest.raises(CheckpointError) as caught:
        export(plain, tmp_path / "bundle", dry_run=True)
    assert said in str(caught.value)


def test_an_adapter_without_its_model_says_how_to_merge(plain: Path, tmp_path: Path) -> None:
    adapted(plain)
    (plain / "config.json").unlink()
    with pytest.raises(CheckpointError, match="merge_and_unload"):
        export(plain, tmp_path / "bundle", dry_run=True)
