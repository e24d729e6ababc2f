"""Checkpoints of torch.ao's dynamic quantization, compared with the library itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import torch_ao
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError
from exit_checks import batch
from systems.edits import Tensors, claims, rewrite
from systems.quantized_checkpoint import write_dynamic
from vocabularies import random_rows

ROWS = list(random_rows("bert", 30))


@pytest.mark.parametrize("by_channel", [False, True])
def test_every_layer_computes_as_the_library(tmp_path: Path, by_channel: bool) -> None:
    theirs = write_dynamic(tmp_path / "c", by_channel)
    assert claims(tmp_path / "c") == ["torch_ao"]
    ours = torch_ao.load(open_checkpoint(tmp_path / "c"), LoadOptions()).model
    compared = 0
    for path, module in theirs.named_modules():
        if "DynamicQuantizedLinear" in str(type(module)) or hasattr(module, "_packed_params"):
            if not isinstance(module, torch.ao.nn.quantized.dynamic.Linear):
                continue
            for scale in (0.01, 1.0):
                values = scale * torch.randn(1, 7, module.in_features)
                found = ours.get_submodule(path)(values)
                torch.testing.assert_close(found, module(values), atol=2e-6, rtol=0)
            compared += 1
    assert compared == 14


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("torch_ao")
    theirs = write_dynamic(folder / "checkpoint")
    return export(folder / "checkpoint", folder / "bundle").bundle, theirs


def test_the_bundle_answers_as_the_librarys_model_does_at_batch_1(bundle: tuple[Path, Any]) -> None:
    path, theirs = bundle
    with Session(path, "onnxruntime", threads=1) as session, torch.inference_mode():
        found = [session.run(batch([row], 0)).logits[0] for row in ROWS]
        expected = [theirs(torch.tensor([row])).logits[0].numpy() for row in ROWS]
        assert not session.bundle.manifest.padding_free
    same = [each.argmax() == other.argmax() for each, other in zip(found, expected, strict=True)]
    worst = [np.abs(each - other).max() for each, other in zip(found, expected, strict=True)]
    # A value in the middle between two levels may go either way, and takes others along.
    assert np.mean(same) > 0.9
    assert np.median(worst) < 0.02 * np.abs(expected).max()


def test_a_row_does_not_depend_on_its_batch(bundle: tuple[Path, Any]) -> None:
    with Session(bundle[0], "onnxruntime", threads=1) as session:
        together = session.run(batch(ROWS, 0)).logits
        alone = np.concatenate([session.run(batch([row], 0)).logits for row in ROWS])
    assert together.tobytes() == alone.tobytes()


def test_every_product_with_a_weight_is_one_of_integers(bundle: tuple[Path, Any]) -> None:
    model = onnx.load(bundle[0] / "segment-00.onnx")
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["MatMulInteger"] == 14
    assert kinds["MatMul"] == 0


def changed(key: str, value: Any) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {key: value}


QUERY = "bert.encoder.layer.0.attention.self.query"


@pytest.mark.parametrize(
    "edit, message",
    [
        (changed(f"{QUERY}.scale", torch.tensor(0.1)), "quantized statically .* quantize_dynamic"),
        (changed(f"{QUERY}._packed_params._packed_params", (1, 2)), "packed as no int8 weight"),
        (
            changed("bert.embeddings.word_embeddings._packed_params._packed_weight", torch.ones(2)),
            "quantization",
        ),
    ],
)
def test_other_kinds_are_refused_by_name(
    tmp_path: Path, edit: Callable[[Tensors], Tensors], message: str
) -> None:
    write_dynamic(tmp_path / "c")
    rewrite(tmp_path / "c", edit)
    with pytest.raises(CheckpointError, match=message):
        export(tmp_path / "c", tmp_path / "b", dry_run=True)
