"""The smallest host: what docs/bundle.md asks of one, with json, numpy and onnxruntime alone."""

import json

import numpy as np
import onnxruntime


def run(bundle, inputs, knobs):
    """Answer `inputs`, name -> int64 [batch, sequence]; see docs/bundle.md for the rest."""
    with open(f"{bundle}/effbert.json", encoding="utf-8") as file:
        manifest = json.load(file)
    batch, sequence = inputs["input_ids"].shape
    tensors = start(manifest, inputs, {"batch": batch, "sequence": sequence})
    knobs = {k["name"]: (k, knobs.get(k["name"], k["default"])) for k in manifest["knobs"]}
    rows = np.arange(batch)
    answers = {"exit_index": np.full(batch, -1)}
    for index, segment in enumerate(manifest["segments"]):
        feeds = {
            name: tensors[name] if name in tensors else knob_value(*knobs[name], index)
            for name in (item["name"] for item in segment["inputs"])
        }
        session = onnxruntime.InferenceSession(f"{bundle}/{segment['file']}")
        names = [item["name"] for item in segment["outputs"]]
        out = dict(zip(names, session.run(names, feeds), strict=True))
        done = out["exit"]
        answers["exit_index"][rows[done]] = index
        out.setdefault("exit_layer", np.full(len(rows), segment["layer"]))
        for name in [*manifest["outputs"], "signal", "exit_layer"]:
            empty = np.zeros((batch, *out[name].shape[1:]), out[name].dtype)
            answers.setdefault(name, empty)[rows[done]] = out[name][done]
        tensors |= {name: out[source] for name, source in segment["carries"].items()}
        tensors = {name: value[~done] for name, value in tensors.items()}
        rows = rows[~done]
        if len(rows) == 0:
            break
    return answers


def knob_value(knob, value, index):
    """What a segment is fed: the value of its exit, or those of all layers."""
    if knob["count"] is None:
        value = float(value[index] if isinstance(value, list) else value)
        return np.array(value, dtype=knob["dtype"])
    values = value if isinstance(value, list) else [value] * knob["count"]
    return np.array([v + 0.5 * isinstance(v, int) for v in values], dtype=knob["dtype"])


def start(manifest, inputs, extents):
    """Inputs, missing ones filled in, and the policy's states before the first segment."""
    tensors = {}
    for item in manifest["inputs"]:
        shape = [extents.get(axis, axis) for axis in item["axes"]]
        filled = np.full(shape, item["missing"] or 0, np.int64)
        tensors[item["name"]] = np.asarray(inputs.get(item["name"], filled), np.int64)
    for state in manifest["states"]:
        shape = [extents.get(axis, axis) for axis in state["axes"]]
        tensors[state["name"]] = np.full(shape, float(state["initial"])).astype(state["dtype"])
    return tensors
