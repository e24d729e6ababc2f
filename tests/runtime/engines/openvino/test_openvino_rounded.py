"""What OpenVINO gets for bfloat16 and int8: rewritten graphs that mean the same."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle_edits import at, edit_manifest, edit_segment
from effbert.runtime import Session
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.engines.openvino.bfloat16 import from_bfloat16, to_bfloat16
from effbert.runtime.engines.openvino.rounded import prepare_rounded
from effbert.runtime.engines.protocol import EngineSettings
from effbert.runtime.engines.table import open_engine
from tiny_bundle import MAX_LENGTH, VOCABULARY, build_tiny_bundle

RNG = np.random.default_rng(0)
MASK = np.zeros((3, 1, 1, 5), np.float32)
MASK[1, ..., 3:] = -1e30
FUSED = """
attention (float[batch,tokens,32] x, float[batch,1,1,tokens] mask)
    => (float[batch,tokens,32] out)
{
    one = Constant <value_ints = [1]> ()
    tokens = Shape <start = 3, end = 4> (mask)
    extents = Concat <axis = 0> (one, one, tokens, one)
    wide = Expand (mask, extents)
    out = Attention <q_num_heads = 2, kv_num_heads = 2, scale = 0.3> (x, x, x, wide)
}
"""
SPELLED = """
attention (float[batch,tokens,32] x, float[batch,1,1,tokens] mask)
    => (float[batch,tokens,32] out)
{
    heads = Constant <value_ints = [0, 0, 2, 16]> ()
    whole = Constant <value_ints = [0, 0, -1]> ()
    scale = Constant <value_float = 0.3> ()
    split = Reshape (x, heads)
    queries = Transpose <perm = [0, 2, 1, 3]> (split)
    keys = Transpose <perm = [0, 2, 3, 1]> (split)
    product = MatMul (queries, keys)
    scaled = Mul (product, scale)
    masked = Add (scaled, mask)
    shares = Softmax <axis = -1> (masked)
    mixed = MatMul (shares, queries)
    back = Transpose <perm = [0, 2, 1, 3]> (mixed)
    out = Reshape (back, whole)
}
"""
QUANTIZED = """
quantized (float[batch,tokens,32] x, float[batch,tokens,32] y)
    => (float[batch,tokens,32] read, float[batch,tokens,32] beside, float[batch,tokens,32] alone)
{
    scale = Constant <value_float = 0.01> ()
    zero = Constant <value = uint8[1] {100}> ()
    nought = Constant <value_ints = [0]> ()
    point = Squeeze (zero, nought)
    levels = QuantizeLinear (x, scale, point)
    read = DequantizeLinear (levels, scale, point)
    beside = Add (x, y)
    sum = Neg (y)
    others = QuantizeLinear (sum, scale, point)
    alone = DequantizeLinear (others, scale, point)
}
"""


def read(text: str, opset: int = 23) -> openvino.Model:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')
    return openvino.Core().read_model(model.SerializeToString())


def answers(model: openvino.Model, *inputs: np.ndarray) -> list[np.ndarray]:
    """What a model computes in float32."""
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", hint)
    return [value.copy() for value in compiled(list(inputs)).values()]


def kinds(model: openvino.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


@pytest.mark.parametrize("text, opset", [(FUSED, 23), (SPELLED, 22)], ids=["fused", "spelled"])
def test_attention_is_spelled_out_with_keys_by_row(text: str, opset: int) -> None:
    inputs = RNG.standard_normal((3, 5, 32), np.float32), MASK
    expected = answers(read(text, opset), *inputs)
    model = prepare_rounded(read(text, opset))
    found = kinds(model)
    assert found.count("MatMul") == 2
    assert not {"ScaledDotProductAttention", "IsNaN", "Select", "Broadcast"} & {*found}
    assert [
        node.get_attributes()["transpose_b"]
        for node in model.get_ordered_ops()
        if node.get_type_name() == "MatMul"
    ] == [True, False]
    np.testing.assert_allclose(answers(model, *inputs), expected, atol=1e-5)


def test_quantization_of_what_others_read_too_gets_an_operator_that_changes_nothing() -> None:
    inputs = [2 * RNG.standard_normal((3, 5, 32), np.float32) for _ in range(2)]
    expected = answers(read(QUANTIZED), *inputs)
    model = prepare_rounded(read(QUANTIZED))
    assert kinds(model).count("Maximum") == 1
    np.testing.assert_array_equal(answers(model, *inputs), expected)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_hidden_states_cross_in_16_bits_and_answers_in_float32(
    precision: str, tmp_path: Path
) -> None:
    read_file = open_bundle(build_tiny_bundle(tmp_path / "bundle")).read
    ids = RNG.integers(5, len(VOCABULARY), (4, MAX_LENGTH))
    start = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        "threshold": np.array(0.5, np.float32),
    }
    found = {}
    for kind in ("fp32", precision):
        engine = open_engine("openvino", EngineSettings(threads=1, precision=kind))
        first, second = (engine.load(f, read_file(f), None) for f in files(2))
        out = first.run(start)
        rows = {"attention_mask": start["attention_mask"], "hidden": out["hidden_out"]}
        kept = {name: np.ascontiguousarray(value[::2]) for name, value in rows.items()}
        found[kind] = second.run(kept | {"threshold": start["threshold"]})
    exact, rounded = found["fp32"], found[precision]
    assert exact["hidden_out"].dtype == np.float32
    assert rounded["hidden_out"].dtype == np.uint16
    assert rounded["hidden_out"].shape == exact["hidden_out"].shape
    assert {rounded[name].dtype for name in ("logits", "signal")} == {np.dtype(np.float32)}
    np.testing.assert_allclose(rounded["logits"], exact["logits"], atol=0.05)
    wide = rounded["hidden_out"].astype(np.uint32) << 16
    np.testing.assert_allclose(wide.view(np.float32), exact["hidden_out"], atol=0.05)


@pytest.mark.parametrize("output", ["hidden_out", "others"])
def test_carries_may_have_any_name(tmp_path: Path, output: str) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    with Session(bundle, "openvino") as session:
        expected = session.run_exits({"input_ids": [[2, 7, 8, 3]]})["logits"]
    edit_segment(bundle, lambda model: rename(model, "hidden_out", output))
    edit_manifest(bundle, at("segments.0.carries.hidden", output))
    edit_manifest(bundle, lambda manifest: name_output(manifest, output))
    edit_manifest(bundle, at("precision", "bf16"))
    with Session(bundle, "openvino") as session:
        found = session.run_exits({"input_ids": [[2, 7, 8, 3]]})["logits"]
    np.testing.assert_allclose(found, expected, atol=0.05)


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for value in model.graph.output:
        value.name = new if value.name == old else value.name


def name_output(manifest: dict[str, Any], name: str) -> None:
    outputs = manifest["segments"][0]["outputs"]
    next(item for item in outputs if item["name"] == "hidden_out")["name"] = name


@given(
    st.lists(
        st.floats(
            width=32,
            allow_nan=False,
            allow_infinity=False,
            min_value=-(2.0**126),
            max_value=2.0**126,
        )
    )
)
def test_halves_are_as_near_as_they_can_be(values: list[float]) -> None:
    exact = np.array(values, np.float32)
    found = from_bfloat16(to_bfloat16(exact))
    assert np.all(np.abs(found - exact) <= np.abs(exact) * 2.0**-8 + 1e-38)
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(found)), found)


def files(count: int) -> list[str]:
    return [f"segment-{index:02d}.onnx" for index in range(count)]
