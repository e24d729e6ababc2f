"""The tiny bundle changed to other tasks: a label for every token, or a span of the context."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from bundle_edits import write_listed
from tiny_bundle import EXITS, build_tiny_bundle

TOKENS = ["batch", "sequence"]


def build_token_bundle(folder: Path, seed: int = 0) -> Path:
    """The exits label every token; the signal is the entropy of all tokens together."""
    build_tiny_bundle(folder, seed=seed)
    for k in range(EXITS):
        _edit(folder, f"segment-{k:02}.onnx", _label_tokens)
    axes = {"logits": [*TOKENS, 3]}
    _edit_manifest(folder, "token-classification", axes)
    return folder


def build_question_bundle(folder: Path, seed: int = 0) -> Path:
    """The exits say where an answer starts (label 0) and ends (label 1)."""
    build_token_bundle(folder, seed=seed)
    for k in range(EXITS):
        _edit(folder, f"segment-{k:02}.onnx", _split_logits)
    _edit_manifest(folder, "question-answering", {"start_logits": TOKENS, "end_logits": TOKENS})
    return folder


def report_layers_of_tokens(folder: Path) -> None:
    """Every segment reports for each real token ten times its layer."""
    for k in range(EXITS):
        _edit(folder, f"segment-{k:02}.onnx", lambda graph, layer=k + 1: _add_layers(graph, layer))
    path = folder / "effbert.json"
    manifest = json.loads(path.read_bytes())
    for segment in manifest["segments"]:
        segment["outputs"].append({"name": "exit_layer", "dtype": "int64", "axes": TOKENS})
    path.write_text(json.dumps(manifest))


def _add_layers(graph: onnx.GraphProto, layer: int) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array(10 * layer), "ten_layers"))
    node = onnx.helper.make_node("Mul", ["attention_mask", "ten_layers"], ["exit_layer"])
    graph.node.append(node)
    graph.output.append(onnx.helper.make_tensor_value_info("exit_layer", TensorProto.INT64, TOKENS))


def _edit(folder: Path, name: str, change: Any) -> None:
    model = onnx.ModelProto.FromString((folder / name).read_bytes())
    change(model.graph)
    write_listed(folder, name, model.SerializeToString())


def _label_tokens(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.output[0] == "first":
            node.CopyFrom(onnx.helper.make_node("Identity", ["hidden_out"], ["first"]))
        elif node.output[0] == "product":
            node.output[0] = "all_products"
        elif node.output[0] == "summed":
            node.input[:] = ["product", "token_axes"]
    at = next(i for i, node in enumerate(graph.node) if node.output[0] == "summed")
    graph.node.insert(at, onnx.helper.make_node("Mul", ["all_products", "column"], ["product"]))
    graph.initializer.append(numpy_helper.from_array(np.array([1, 2]), "token_axes"))
    _output(graph, "logits", [*TOKENS, 3])


def _split_logits(graph: onnx.GraphProto) -> None:
    for index, name in enumerate(("start_logits", "end_logits")):
        graph.initializer.append(numpy_helper.from_array(np.array(index), f"place_of_{name}"))
        inputs = ["logits", f"place_of_{name}"]
        graph.node.append(onnx.helper.make_node("Gather", inputs, [name], axis=2))
        graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, TOKENS))
    graph.output.remove(next(value for value in graph.output if value.name == "logits"))


def _output(graph: onnx.GraphProto, name: str, axes: list[Any]) -> None:
    value = next(value for value in graph.output if value.name == name)
    value.CopyFrom(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))


def _edit_manifest(folder: Path, task: str, outputs: dict[str, list[Any]]) -> None:
    path = folder / "effbert.json"
    manifest = json.loads(path.read_bytes())
    manifest |= {"task": task, "problem": None, "outputs": list(outputs), "golden": []}
    for segment in manifest["segments"]:
        kept = [item for item in segment["outputs"] if item["name"] != "logits"]
        new = [{"name": name, "dtype": "float32", "axes": axes} for name, axes in outputs.items()]
        kept = [item for item in kept if item["name"] not in outputs]
        segment["outputs"] = new + kept
    if task == "question-answering":
        manifest["labels"] = []
    path.write_text(json.dumps(manifest))
