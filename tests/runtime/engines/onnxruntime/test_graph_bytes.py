"""ONNX files as bytes, and the memory of files that were mapped."""

from __future__ import annotations

import mmap
import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effbert.runtime.engines.onnxruntime.graph_bytes import Branch
from effbert.runtime.engines.onnxruntime.mapped import MAPS, give_back
from effbert.runtime.engines.onnxruntime.protobuf import encode_field, read_fields


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_message_are_a_value_error(data: bytes) -> None:
    try:
        parts = list(read_fields(memoryview(data)))
    except ValueError:
        return
    assert b"".join(bytes(part.raw) for part in parts) == data


@pytest.mark.parametrize("value", [0, 1, 127, 128, 1 << 40, "name", b"", b"\x00" * 300])
def test_what_is_written_is_read(value: int | str | bytes) -> None:
    (field,) = read_fields(memoryview(encode_field(13, value)))
    found = field.value if isinstance(field.value, int) else bytes(field.value)
    assert (field.number, found) == (13, value.encode() if isinstance(value, str) else value)


@pytest.mark.parametrize("data", [b"", b"\x3a\x05abc", encode_field(7, 3), b"\x08" + b"\xff" * 12])
def test_files_that_are_no_models_are_not_taken_apart(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Branch(data, {})


@pytest.mark.skipif(not MAPS.exists(), reason="Linux only")
def test_a_file_that_was_taken_apart_is_let_go() -> None:
    node = onnx.helper.make_node("Softmax", ["x"], ["y"], axis=1)
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 1024]) for name in "xy"]
    weight = onnx.numpy_helper.from_array(np.zeros(1024, np.float32), "weight")
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    data = onnx.helper.make_model(graph).SerializeToString()
    held = sys.getrefcount(data)
    branch = Branch(data, {"x": "x"})
    assert sys.getrefcount(data) > held  # by the weight
    branch.store_weights(BytesIO(), "weights")
    assert sys.getrefcount(data) == held


def test_mapped_pages_are_given_back_and_can_be_read_again(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    path = tmp_path / "weights"
    path.write_bytes(content)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == content
        before = resident(path)
        give_back(str(tmp_path))
        assert resident(path) == 0 < before
        assert mapped[:] == content


def resident(path: Path) -> int:
    """Kilobytes of a mapped file that are in memory."""
    total, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            here = line.endswith(str(path))
        elif here and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total
