"""Prepared segments against those of the bundle, on onnxruntime and by onnx's own evaluator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from effbert.graph_passes import sixteen_bits
from effbert.graph_passes.prepare import PrepareError, Request, prepare, read_model
from effbert.graph_passes.tensorrt_lint import find_problems
from effbert.runtime import Bundle
from prepared_host import (
    Trace,
    on_onnxruntime,
    on_reference,
    prepare_bundle,
    requests,
    run_bundle,
    run_prepared,
    weights_of,
)
from small_bundles import some_inputs, some_knobs, who_leaves

Small = Callable[[str], Bundle]
KNOBS = {"lengths": [0.8, 0.5, 0.3]}
# Logits of these checkpoints reach 3; their weights are wide, so that rounding shows.
BOUNDS = {"fp16": 0.015, "bf16": 0.15}


def knobs_of(bundle: Bundle) -> dict[str, np.ndarray]:
    layers = next((k.count for k in bundle.manifest.knobs if k.count), 0)
    return some_knobs(bundle, lengths=KNOBS["lengths"][:layers])


def both(bundle: Bundle, compute: str = "fp32", **more: object) -> tuple[Trace, Trace]:
    inputs, knobs, leaving = some_inputs(bundle), knobs_of(bundle), who_leaves(bundle)
    ready = prepare_bundle(bundle, compute)
    own = run_bundle(bundle, inputs, knobs, leaving)
    return own, run_prepared(bundle, ready, inputs, knobs, leaving, **more)


def worst(own: Trace, found: Trace, name: str) -> float:
    pairs = zip(own.outputs, found.outputs, strict=True)
    return max(float(np.abs(a[name] - b[name].astype(np.float32)).max()) for a, b in pairs)


FAST = ("exits", "lengths", "pabee-bert")
SLOW = (
    *("exits-22", "albert", "lengths-22", "lengths-plain", "padded-lengths", "retention"),
    *("fp16", "bf16", "int8-weight", "int4-weight", "act", "cascadebert-3", "berxit-learned"),
    *("elbert-bias-1", "gpfee-bert", "sledgehammer", "fastbert-pypi"),
)
EVERY = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.mark.parametrize("name", EVERY)
def test_rows_columns_and_extents_change_no_bit(small_bundle: Small, name: str):
    bundle = small_bundle(name)
    buckets = (1, 8) if any(knob.count for knob in bundle.manifest.knobs) else (1,)
    for bucket in buckets:
        own, found = both(bundle, bucket=bucket)
        assert len(own.outputs) == len(found.outputs) == len(bundle.manifest.segments)
        for expected, out in zip(own.outputs, found.outputs, strict=True):
            for key, value in expected.items():
                # An extent that was rounded up has columns more, which nothing reads.
                shown = out[key][tuple(map(slice, value.shape))] if bucket > 1 else out[key]
                np.testing.assert_array_equal(shown, value, err_msg=key)


def test_rows_that_left_early_are_really_fewer(small_bundle: Small):
    own, found = both(small_bundle("exits"))
    assert [len(rows) for rows in found.rows] == [6, 4, 3]
    assert [out["hidden_out"].shape[1] for out in found.outputs[:-1]] == [30, 21]
    assert [list(rows) for rows in found.rows] == [list(rows) for rows in own.rows]


@pytest.mark.parametrize("name", ["int8", pytest.param("int8-22", marks=pytest.mark.slow)])
def test_int8_around_zero_has_the_same_integers(small_bundle: Small, name: str):
    bundle = small_bundle(name)
    segment, request = next(requests(bundle))
    ready = prepare(bundle.read(segment.file), None, request)
    assert ready.changes["activations around zero"] == 5
    feeds = some_inputs(bundle) | knobs_of(bundle)
    own, found = (integers(data, feeds) for data in (bundle.read(segment.file), ready.model))
    assert own.keys() == found.keys()
    assert len(own) == 5
    for key, levels in own.items():
        shifted = found[key].astype(np.int64) + 128
        assert np.abs(shifted - levels).max() <= 1  # where a value lies between two levels
        assert (shifted == levels).mean() > 0.9995
    trace, same = both(bundle)
    assert worst(trace, same, "logits") < 2e-5


def integers(data: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the QuantizeLinear nodes of a graph give."""
    model = onnx.ModelProto.FromString(data)
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    names = [node.output[0] for node in nodes]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    inputs = {value.name for value in model.graph.input}
    run = on_onnxruntime(model.SerializeToString(), names)
    return run({key: value for key, value in feeds.items() if key in inputs})


@pytest.mark.parametrize("name", ["exits-22", "lengths", "int8"])
def test_fp16_stays_within_its_bound_at_every_exit(small_bundle: Small, name: str):
    own, found = both(small_bundle(name), "fp16", bucket=8)
    bound = BOUNDS["fp16"] * (12 if name == "int8" else 1)  # a level more or less
    assert 0 < worst(own, found, "logits") < bound
    assert found.outputs[0]["logits"].dtype == np.float32
    assert found.outputs[0]["signal"].dtype == np.float32
    assert found.outputs[0]["hidden_out"].dtype == np.float16


@pytest.mark.parametrize("compute", ["fp16", "bf16"])
def test_every_rounded_operator_stays_within_the_bound(small_bundle: Small, compute: str):
    own, found = both(small_bundle("exits-22"), compute, run=on_reference)
    assert 0 < worst(own, found, "logits") < BOUNDS[compute]


def test_decisions_in_16_bits_are_nearly_all_the_same(
    small_bundle: Small, record_property: Callable[[str, object], None]
):
    bundle = small_bundle("exits-22")
    inputs = some_inputs(bundle, lengths=[12, 30, 7, 22] * 10)
    nobody = [np.zeros(40, bool)] * 3
    own = run_bundle(bundle, inputs, knobs_of(bundle), nobody)
    threshold = float(np.median(np.concatenate([out["signal"] for out in own.outputs])))
    for compute in ("fp16", "bf16"):
        ready = prepare_bundle(bundle, compute)
        found = run_prepared(bundle, ready, inputs, knobs_of(bundle), nobody, run=on_reference)
        pairs = zip(own.outputs, found.outputs, strict=True)
        same = [(a["signal"] < threshold) == (b["signal"] < threshold) for a, b in pairs]
        share = float(np.mean(same))
        record_property(f"same decisions in {compute}", share)
        assert share > {"fp16": 0.98, "bf16": 0.95}[compute]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize("compute", ["fp16", "bf16"])
def test_without_the_clamp_masks_are_infinite_and_logits_no_numbers(
    small_bundle: Small, monkeypatch: pytest.MonkeyPatch, compute: str
):
    bundle = small_bundle("exits-22")
    _, clamped = both(bundle, compute, run=on_reference)
    assert all(np.isfinite(out["logits"]).all() for out in clamped.outputs)
    monkeypatch.setitem(sixteen_bits.LARGEST, compute, np.inf)
    _, found = both(bundle, compute, run=on_reference)
    assert not np.isfinite(found.outputs[0]["logits"]).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_weights_stored_in_16_bits_serve_every_precision(small_bundle: Small, name: str):
    bundle = small_bundle(name)
    segment, _ = next(requests(bundle))
    for compute in ("fp16", "bf16"):
        request = next(request for _, request in requests(bundle, compute))
        model = read_model(prepare(bundle.read(segment.file), None, request).model)
        other = {"fp16": ir.DataType.BFLOAT16, "bf16": ir.DataType.FLOAT16}[compute]
        large = [v for v in model.graph.initializers.values() if v.const_value.size > 4096]
        kinds = {value.dtype for value in large}
        if compute == name or compute == "fp16":
            assert other not in kinds
        assert ir.DataType.FLOAT not in kinds
    own, found = both(bundle, "fp16")
    assert worst(own, found, "logits") < BOUNDS["fp16"]


def test_inputs_that_are_not_read_stay(small_bundle: Small):
    for name in ("exits", "lengths", "pabee-bert"):
        bundle = small_bundle(name)
        for (segment, _), ready in zip(requests(bundle), prepare_bundle(bundle), strict=True):
            kept = {port.name for port in ready.inputs}
            assert {item.name for item in segment.inputs} <= kept


def test_a_record_tells_what_each_input_is(small_bundle: Small):
    bundle = small_bundle("lengths")
    ready = prepare_bundle(bundle, "fp16")[1]
    found = {port.name: (port.role, port.dtype, port.axes, port.rows) for port in ready.inputs}
    assert found["hidden"] == ("carry", "float16", ("earlier_batch", "tokens_1", 32), "rows")
    assert found["rows"] == ("rows", "int64", ("batch",), None)
    assert found["keep_0"] == ("extent", "int64", (), None)
    assert found["lengths"] == ("knob", "float32", (3,), None)
    [extent] = ready.extents
    assert (extent.knob, extent.element, extent.least, extent.total) == ("lengths", 1, 2, None)
    assert extent.slack == pytest.approx(1e-4)


def test_preparing_is_deterministic(small_bundle: Small):
    bundle = small_bundle("lengths")
    once, again = (prepare_bundle(bundle, "fp16") for _ in range(2))
    assert [ready.model for ready in once] == [ready.model for ready in again]


@pytest.mark.parametrize("name", ["exits", "lengths", "int8", "pabee-bert"])
def test_prepared_segments_have_nothing_that_cannot_be_built(small_bundle: Small, name: str):
    bundle = small_bundle(name)
    weights = weights_of(bundle)
    for segment, request in requests(bundle, "fp16"):
        ready = prepare(bundle.read(segment.file), weights, request)
        assert find_problems(read_model(ready.model), ["sm75", "sm86", "sm120"]) == []
    if name in ("lengths", "int8"):
        assert find_problems(read_model(bundle.read(bundle.manifest.segments[0].file)))


@pytest.mark.parametrize(
    "data, request_, words",
    [
        (b"no model", Request(), "no ONNX file"),
        (b"", Request(), "no outputs"),
        (b"", Request(compute="fp8"), "no compute precision fp8"),
    ],
)
def test_what_is_no_segment_is_refused(data: bytes, request_: Request, words: str):
    with pytest.raises(PrepareError, match=words):
        prepare(data, None, request_)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "other.bin"])
def test_weights_elsewhere_are_never_opened(small_bundle: Small, location: str):
    bundle = small_bundle("exits")
    model = onnx.ModelProto.FromString(bundle.read(bundle.manifest.segments[0].file))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {"location": location, "offset": "0", "length": "64"}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    with pytest.raises(PrepareError, match="is not read"):
        prepare(model.SerializeToString(), b"0" * 1024)
    tensor.external_data[0].value = "weights.bin"
    tensor.external_data[1].value = str(1 << 40)
    with pytest.raises(PrepareError, match="behind the end"):
        prepare(model.SerializeToString(), b"0" * 1024)
