"""Rows and columns that a segment takes itself, from buffers of different age."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from effbert.graph_passes.device_rows import take_rows
from graphs import graph, operators, run

TEXT = """
g (float[batch,sequence,4] hidden, float[batch,sequence,4] old, int64[batch] state,
   float[batch,sequence,sequence] bias, int64[batch,sequence] attention_mask)
    => (float[batch,sequence,4] y, float[batch,sequence,sequence] b, int64[batch] s) {
    y = Add(hidden, old)
    b = Neg(bias)
    s = Neg(state)
}
"""
ROWS = {"hidden": "rows", "bias": "rows", "old": "rows_from_0", "state": "rows_from_start"}


def taken(trims: bool, rows: dict[str, str] = ROWS) -> ir.Model:
    model = graph(TEXT)
    assert take_rows(model, rows, trims) == len(rows)
    return model


def feeds() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "hidden": random.standard_normal((5, 7, 4)).astype(np.float32),
        "bias": random.standard_normal((5, 7, 7)).astype(np.float32),
        "old": random.standard_normal((9, 10, 4)).astype(np.float32),
        "state": np.arange(12),
        "rows": np.array([0, 3, 4]),
        "rows_from_0": np.array([1, 7, 8]),
        "rows_from_start": np.array([2, 9, 11]),
        "attention_mask": np.ones((3, 5), np.int64),
    }


def test_each_buffer_has_rows_and_columns_of_its_own():
    given = feeds()
    found = run(taken(True), given)
    hidden = given["hidden"][given["rows"]][:, :5]
    old = given["old"][given["rows_from_0"]][:, :5]
    np.testing.assert_array_equal(found["y"], hidden + old)
    np.testing.assert_array_equal(found["b"], -given["bias"][given["rows"]][:, :5, :5])
    np.testing.assert_array_equal(found["s"], -given["rows_from_start"])


def test_axes_say_which_extents_are_equal():
    shapes = {value.name: str(value.shape) for value in taken(True).graph.inputs}
    assert shapes["hidden"] == "[earlier_batch,earlier_sequence,4]"
    assert shapes["bias"] == "[earlier_batch,earlier_sequence,earlier_sequence]"
    assert shapes["old"] == "[earlier_batch_0,earlier_sequence_0,4]"
    assert shapes["state"] == "[earlier_batch_start]"
    assert shapes["rows"] == shapes["rows_from_0"] == "[batch]"


def test_columns_stay_where_padding_counts():
    model = taken(False)
    assert "Slice" not in operators(model)
    assert str(model.graph.inputs[0].shape) == "[earlier_batch,sequence,4]"


def test_a_segment_that_reads_no_mask_gets_one_for_its_columns():
    text = TEXT.replace(", int64[batch,sequence] attention_mask", "")
    model = graph(text)
    take_rows(model, ROWS, trims=True)
    given = feeds()
    np.testing.assert_array_equal(run(model, given)["y"].shape, (3, 5, 4))


@pytest.mark.parametrize("trims", [False, True])
def test_without_carries_nothing_changes(trims: bool):
    model = taken(trims, {})
    assert operators(model) == ["Add", "Neg", "Neg"]
    assert len(model.graph.inputs) == 5
