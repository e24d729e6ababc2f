"""Quantized checkpoints keep their own scales, and their products run on integers."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import modelopt, qdqbert
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime import Bundle, Session
from effbert.runtime.errors import CheckpointError, InputError
from exit_checks import batch
from systems.edits import Tensors, claims
from systems.quantized_checkpoint import is_linear, write_modelopt, write_qdqbert
from systems.quantized_reference import Quantized
from vocabularies import random_rows

ROWS = list(random_rows("bert", 40))
OFF = {
    "bert.encoder.layer.0.output.dense.input_quantizer": {"_disabled": True},
    "bert.encoder.layer.0.output.dense.weight_quantizer": {"_disabled": True},
    "bert.encoder.layer.1.attention.output.LayerNorm.input_quantizer": {"_disabled": True},
}
Case = tuple[Callable[[Path], Path], Callable[[Path], Quantized]]
CASES: dict[str, Case] = {
    "qdqbert": (write_qdqbert, lambda path: Quantized(path, "_")),
    "modelopt": (write_modelopt, lambda path: Quantized(path, "")),
    "modelopt, smooth": (
        lambda path: write_modelopt(path, smooth=True, states=OFF),
        lambda path: Quantized(path, "", off=[name.removesuffix("_quantizer") for name in OFF]),
    ),
}
every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Bundle, Quantized]]:
    @cache
    def make(name: str) -> tuple[Bundle, Quantized]:
        folder = tmp_path_factory.mktemp("quantized")
        write, reference = CASES[name]
        checkpoint = write(folder / "checkpoint")
        bundle = export(checkpoint, folder / "bundle").bundle
        return Session(bundle).bundle, reference(checkpoint)

    return make


@every_case
def test_the_bundle_answers_as_the_checkpoint_rounds(
    exported: Callable[[str], Any], name: str
) -> None:
    bundle, reference = exported(name)
    clear = 0
    with Session(bundle, threads=1) as session:
        for row in ROWS:
            logits, sure = reference.answers_clearly(row)
            found = session.run(batch([row], 0)).logits[0]
            if sure:  # otherwise a level may be the next one, in float32 as in the bundle
                clear += 1
                np.testing.assert_allclose(found, logits, atol=1e-4)
        assert clear > len(ROWS) / 3
        assert session.bundle.manifest.precision == "int8"


@every_case
def test_a_row_does_not_depend_on_its_batch(exported: Callable[[str], Any], name: str) -> None:
    bundle, _ = exported(name)
    with Session(bundle, "onnxruntime", threads=1) as session:
        together = session.run(batch(ROWS, 0)).logits
        alone = np.concatenate([session.run(batch([row], 0)).logits for row in ROWS])
    assert together.tobytes() == alone.tobytes()


@every_case
def test_products_run_on_integers(
    exported: Callable[[str], Any], name: str, tmp_path: Path
) -> None:
    bundle, reference = exported(name)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    model = onnx.load(bundle.path / "segment-00.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    integers = sum(kinds[each] for each in ("MatMulIntegerToFloat", "QLinearMatMul", "QGemm"))
    weights = sum(key.endswith("weight_quantizer._amax") for key in reference.tensors)
    expected = weights + 4 * (name == "qdqbert") - (name == "modelopt, smooth")
    assert integers == expected
    assert kinds["MatMulNBits"] == 0


@every_case
def test_stored_levels_are_those_of_the_stored_scales(
    exported: Callable[[str], Any], name: str
) -> None:
    bundle, reference = exported(name)
    model = onnx.load(bundle.path / "segment-00.onnx")
    stored = {
        onnx.numpy_helper.to_array(each).tobytes()
        for each in model.graph.initializer
        if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 2
    }
    expected = set()
    for key, largest in reference.tensors.items():
        path, _, kind = key.rpartition(f".{reference.mark}weight_quantizer.")
        if kind == "_amax" and f"{path}.{reference.mark}weight" not in reference.off:
            weight = reference.tensors[f"{path}.weight"].float()
            levels = (weight * (127 / largest.float())).round().clamp(-128, 127)
            expected.add(np.ascontiguousarray(levels.T.to(torch.int8).numpy()).tobytes())
    assert stored == expected


def test_one_scale_for_a_whole_weight_is_read(tmp_path: Path) -> None:
    checkpoint = write_qdqbert(tmp_path / "c", per_row=False)
    model = qdqbert.load(open_checkpoint(checkpoint), LoadOptions())
    steps = model.model.get_submodule("bert.encoder.layer.0.output.dense").steps
    assert steps.unique().numel() == 1


def test_formats_are_told_apart(tmp_path: Path) -> None:
    assert claims(write_qdqbert(tmp_path / "q")) == ["qdqbert"]
    assert claims(write_modelopt(tmp_path / "m")) == ["modelopt"]


def test_a_quantized_checkpoint_takes_no_other_precision(tmp_path: Path) -> None:
    checkpoint = write_modelopt(tmp_path / "c")
    with pytest.raises(InputError, match=r"quantized already .* leave --precision out"):
        export(checkpoint, tmp_path / "b", precision="int8", dry_run=True)
    with pytest.raises(InputError, match="leave --widths"):
        export(checkpoint, tmp_path / "b", widths="0.5,1", dry_run=True)


NAME = "bert.encoder.layer.0.output.dense"


def with_scales_by_channel(tensors: Tensors) -> Tensors:
    return tensors | {f"{NAME}.input_quantizer._amax": torch.ones(64)}


def with_attention(tensors: Tensors) -> Tensors:
    return tensors | {
        "bert.encoder.layer.0.attention.self.q_bmm_quantizer._amax": torch.tensor(1.0)
    }


@pytest.mark.parametrize(
    "options, message",
    [
        ({"states": {f"{NAME}.weight_quantizer": {"_num_bits": 4}}}, "rounds to 4 bits"),
        (
            {"states": {f"{NAME}.input_quantizer": {"_num_bits": (4, 3)}}},
            r"rounds to \(4, 3\) bits",
        ),
        (
            {"states": {f"{NAME}.weight_quantizer": {"_block_sizes": {-1: 16}}}},
            "rounds to blocks",
        ),
        ({"edit": with_scales_by_channel}, r"input_quantizer._amax is \[64\], expected one number"),
        ({"edit": with_attention}, "q_bmm_quantizer, but effbert knows quantizers of inputs"),
    ],
)
def test_quantizers_of_another_kind_are_named(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    checkpoint = write_modelopt(tmp_path / "c", **options)
    with pytest.raises(CheckpointError, match=message):
        modelopt.load(open_checkpoint(checkpoint), LoadOptions())


def test_a_state_that_is_code_is_refused(tmp_path: Path) -> None:
    checkpoint = write_modelopt(tmp_path / "c")
    torch.save({"modelopt_state_dict": open_checkpoint}, checkpoint / "modelopt_state.pth")
    with pytest.raises(CheckpointError, match="could not be read as plain values"):
        modelopt.load(open_checkpoint(checkpoint), LoadOptions())


def test_a_state_that_is_compressed_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    checkpoint = write_modelopt(tmp_path / "c", states=OFF)
    path = checkpoint / "modelopt_state.pth"
    with zipfile.ZipFile(path) as stored:
        content = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as compressed:
        for name, data in content.items():
            compressed.writestr(name, data)
    with pytest.raises(CheckpointError, match="could not be read as plain values"):
        modelopt.load(open_checkpoint(checkpoint), LoadOptions())


def test_every_linear_layer_of_the_encoder_is_quantized(tmp_path: Path) -> None:
    checkpoint = write_qdqbert(tmp_path / "c")
    shapes = open_checkpoint(checkpoint).load_tensors()
    count = sum(is_linear(name, tensor) for name, tensor in shapes.items())
    model = qdqbert.load(open_checkpoint(checkpoint), LoadOptions())
    kinds = [type(part).__name__ for part in model.modules()]
    assert kinds.count("QuantizedLinear") == count
