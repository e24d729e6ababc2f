"""The native library refuses what Python refuses: damage, hostile names, links that lead out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bundle_edits import SEGMENT, edit_manifest, edit_segment, write_listed
from effbert.runtime import Session
from effbert.runtime.errors import BundleError, EngineError
from hostile_bundles import FILES, HOSTILE, OTHER_SIZE, OUT, SAME_SIZE
from native_pair import native_library, open_native

LISTED = [SEGMENT, "tokenizer.json", "weights.bin", "effbert.json"]


@pytest.fixture(autouse=True)
def built() -> None:
    native_library()


def python(bundle: Path) -> None:
    Session(bundle).close()


def native(bundle: Path) -> None:
    open_native(bundle).close()


both = pytest.mark.parametrize("open_it", [python, native])
Opener = Callable[[Path], None]


@both
def test_an_intact_bundle_opens(bundle: Path, open_it: Opener) -> None:
    open_it(bundle)


@both
@pytest.mark.parametrize("damage", SAME_SIZE)
@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_and_named(
    bundle: Path, name: str, damage: str, open_it: Opener
) -> None:
    path = bundle / name
    path.write_bytes(SAME_SIZE[damage](path.read_bytes()))
    with pytest.raises(BundleError, match=f"{name} is damaged: its sha256 is [0-9a-f]{{12}}, "):
        open_it(bundle)


@both
@pytest.mark.parametrize("damage", OTHER_SIZE)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_size_is_refused(
    bundle: Path, name: str, damage: str, open_it: Opener
) -> None:
    path = bundle / name
    data = path.read_bytes()
    path.write_bytes(OTHER_SIZE[damage](data))
    size = path.stat().st_size
    with pytest.raises(BundleError, match=rf"{name}.* has {size} bytes.* says {len(data)}"):
        open_it(bundle)


@both
@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle: Path, name: str, open_it: Opener) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        open_it(bundle)


@both
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused(bundle: Path, name: str, open_it: Opener) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = manifest["files"].pop(SEGMENT)
        manifest["segments"][0]["file"] = name

    edit_manifest(bundle, rename)
    with pytest.raises(BundleError):
        open_it(bundle)


@both
@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("way", OUT)
def test_a_link_that_leads_out_is_refused(
    bundle: Path, name: str, way: Callable[[Path, str], None], open_it: Opener
) -> None:
    way(bundle, name)
    with pytest.raises(BundleError, match="is a symbolic link that leads out"):
        open_it(bundle)


@both
def test_what_is_no_bundle_is_refused(tmp_path: Path, open_it: Opener) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(BundleError):
            open_it(path)


def _external(tensor: onnx.TensorProto, location: str) -> None:
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


@both
@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph"])
@pytest.mark.parametrize("location", ["../secret", "/tmp/secret", "secret"])
def test_a_segment_that_refers_to_another_file_is_refused(
    bundle: Path, location: str, where: str, open_it: Opener
) -> None:
    for folder in (bundle, bundle.parent):
        (folder / "secret").write_bytes(bytes(4096))

    def refer(model: onnx.ModelProto) -> None:
        head = next(each for each in model.graph.initializer if each.name == "head")
        values = onnx.numpy_helper.to_array(head).copy()
        model.graph.initializer.remove(head)
        tensor = onnx.numpy_helper.from_array(values, "head")
        _external(tensor, location)
        if where == "initializer":
            model.graph.initializer.append(tensor)
            return
        node = onnx.helper.make_node("Constant", [], ["head"], value=tensor)
        if where == "subgraph":
            yes = onnx.numpy_helper.from_array(np.array(True), "yes")
            model.graph.initializer.append(yes)
            out = onnx.helper.make_tensor_value_info("head", 1, values.shape)
            graph = onnx.helper.make_graph([node], "branch", [], [out])
            node = onnx.helper.make_node(
                "If", ["yes"], ["head"], then_branch=graph, else_branch=graph
            )
        model.graph.node.insert(0, node)

    edit_segment(bundle, refer)
    with pytest.raises((BundleError, EngineError)):
        open_it(bundle)


@both
def test_a_segment_that_is_no_graph_is_refused(bundle: Path, open_it: Opener) -> None:
    for data in (b"location" * 100, b"\xff" * 64, b""):
        write_listed(bundle, SEGMENT, data)
        with pytest.raises((BundleError, EngineError)):
            open_it(bundle)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_graph_that_gives_less_than_the_manifest_says_is_an_error(
    bundle: Path, axis: int
) -> None:
    """Its memory is never read beyond what there is."""

    def halve(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for index, name in enumerate(node.output):
                if name == "logits":
                    node.output[index] = "all_logits"
        for name, value in (("from", 0), ("to", 1), ("along", axis)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))
        slices = ["all_logits", "from", "to", "along"]
        model.graph.node.append(onnx.helper.make_node("Slice", slices, ["logits"]))
        for node in model.graph.node:
            if node.op_type in ("Softmax", "LogSoftmax"):
                node.input[0] = "all_logits"
        for output in model.graph.output:
            if output.name == "logits":
                output.type.tensor_type.ClearField("shape")

    edit_segment(bundle, halve)
    session = open_native(bundle)
    ids = np.full((4, 6), 7)
    with pytest.raises(EngineError, match="'logits' with another type or shape"):
        session.run({"input_ids": ids}, ["logits"])
    session.close()
