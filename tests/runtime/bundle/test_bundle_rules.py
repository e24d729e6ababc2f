"""Records of a manifest that contradict each other are refused, naming the field."""

from typing import Any

import pytest

from bundle_edits import Edit, at, edited
from effbert.runtime.bundle.parse import parse_manifest
from effbert.runtime.errors import ManifestError

HASH = "0" * 64
CONTRADICTIONS: dict[str, tuple[Edit, str]] = {
    "segment file not listed": (at("segments.0.file", "no.onnx"), r"\$\.segments\[0\]\.file"),
    "tokenizer not listed": (at("tokenizer.file", "no.json"), r"\$\.tokenizer\.file"),
    "upper-case hash": (at("files.weights", {"size": 1, "sha256": "A" * 64}), "sha256"),
    "hash with a newline": (at("files.weights", {"size": 1, "sha256": HASH + "\n"}), "sha256"),
    "layers run backwards": (at("segments.0.layer", 3), r"\$\.segments\[1\]\.layer"),
    "an input nobody gives": (at("segments.1.inputs.0.name", "ghost"), "'ghost' is no input"),
    "a carry read before it exists": (
        lambda manifest: manifest["segments"][0].update(carries={}),
        "'hidden' is no input",
    ),
    "a carry of no output": (at("segments.0.carries", {"hidden": "no"}), "'no' is no output"),
    "a carry over a knob": (at("segments.0.carries.threshold", "signal"), "cannot be carried"),
    "a carry of another type": (at("segments.0.carries.input_ids", "hidden_out"), "expected int64"),
    "another dtype": (at("segments.0.inputs.0.dtype", "float32"), "expected int64"),
    "other axes": (at("segments.1.inputs.0.axes", ["batch", "sequence", 9]), "hidden"),
    "a knob with axes": (at("segments.0.inputs.3.axes", ["batch"]), "threshold"),
    "no exit": (at("segments.0.outputs.2.name", "leave"), "'exit' is missing"),
    "no signal": (at("segments.1.outputs.1.name", "other"), "'signal' is missing"),
    "no logits": (at("segments.2.outputs.0.name", "other"), "'logits' is missing"),
    "exit is no bool": (at("segments.0.outputs.2.dtype", "int64"), "'exit' is int64"),
    "exits differ in shape": (at("segments.1.outputs.0.axes", ["batch", 4]), "'logits'"),
    "logits without batch": (at("segments.0.outputs.0.axes", ["sequence", 3]), "first axis"),
    "an axis unknown": (at("segments.0.outputs.0.axes", ["batch", "x"]), r"axes"),
    "outputs of another task": (at("task", "question-answering"), r"\$\.outputs"),
    "token logits without sequence": (at("task", "token-classification"), "3 axes"),
    "labels do not fit": (at("labels", ["one"]), "1 labels for 3 logits"),
    "no problem": (at("problem", None), r"\$\.problem"),
    "names used twice": (at("knobs.0.name", "input_ids"), "'input_ids' names two"),
    "segment names used twice": (at("segments.0.outputs.0.name", "input_ids"), "names two"),
    "default out of range": (at("knobs.0.default", 2.5), r"\$\.knobs\[0\]\.default"),
    "never out of range": (at("knobs.0.never", "-inf"), r"\$\.knobs\[0\]\.never"),
    "range upside down": (at("knobs.0.minimum", 3.0), r"\$\.knobs\[0\]"),
    "a knob that is nan": (at("knobs.0.default", "nan"), r"\$\.knobs\[0\]\.default"),
    "half an integer knob": (
        lambda manifest: manifest["knobs"][0].update(dtype="int64", default=0.5),
        "not an integer",
    ),
    "no input ids": (at("inputs.0.name", "ids"), "input_ids"),
    "a pad id outside": (at("limits.pad_id", 50), r"\$\.limits\.pad_id"),
    "more tokens than the model": (at("limits.vocab_size", 49), r"\$\.tokenizer\.vocab_size"),
    "a special id outside": (at("tokenizer.special_ids", {"[X]": 50}), "outside the vocabulary"),
    "longer texts than the model": (at("tokenizer.max_length", 33), "above 32"),
    "golden id outside": (at("golden.0.input_ids.1", 50), r"\$\.golden\[0\]\.input_ids"),
    "golden id negative": (at("golden.0.input_ids.1", -1), r"\$\.golden\[0\]\.input_ids"),
    "golden row too long": (at("golden.0.input_ids", [2] * 33), "33 tokens"),
    "golden types too short": (at("golden.0.token_type_ids", [0]), "token_type_ids"),
    "golden outputs of another name": (at("golden.0.outputs", {"x": []}), r"golden\[0\]\.outputs"),
    "golden exits missing": (at("golden.0.outputs.logits", [[1, 2, 3]]), "shape"),
    "golden values missing": (at("golden.0.outputs.logits.1", [1, 2]), "shape"),
    "golden values are text": (at("golden.0.outputs.logits.1", ["1", "2", "3"]), "shape"),
    "golden values are bools": (at("golden.0.outputs.logits.1", [True, True, False]), "shape"),
    "three golden texts": (at("golden.0.text", ["a", "b", "c"]), "one text or a pair"),
    "a point with another knob": (
        at("operating_points", [{"name": "p", "knobs": {"x": 1}, "data": ""}]),
        "no such knob",
    ),
    "a point out of range": (
        at("operating_points", [{"name": "p", "knobs": {"threshold": 3}, "data": ""}]),
        "outside 0.0..2.0",
    ),
    "a point with too few values": (
        at("operating_points", [{"name": "p", "knobs": {"threshold": [1, 1]}, "data": ""}]),
        "2 values for 3 exits",
    ),
    "two points of one name": (
        at("operating_points", [{"name": "p", "knobs": {}, "data": ""}] * 2),
        "two are named 'p'",
    ),
    "parity of fewer exits": (at("parity.max_abs_diff", [0.0]), r"\$\.parity\.max_abs_diff"),
    "parity without tolerance": (at("parity.atol", 0.0), r"\$\.parity\.atol"),
    "state that is no integer": (
        at("states", [{"name": "s", "dtype": "int64", "axes": ["batch"], "initial": "inf"}]),
        r"\$\.states\[0\]\.initial",
    ),
    "a text instead of a number": (at("limits.max_length", "32"), r"\$\.limits\.max_length"),
    "a bool instead of a number": (at("limits.max_length", True), r"\$\.limits\.max_length"),
    "a float instead of a count": (at("limits.max_length", 32.5), r"\$\.limits\.max_length"),
    "a field missing": (lambda manifest: manifest.pop("task"), "`task`"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_refused_naming_the_field(data: bytes, name: str) -> None:
    change, message = CONTRADICTIONS[name]
    with pytest.raises(ManifestError, match=message):
        parse_manifest(edited(data, change))


def test_all_contradictions_are_reported_at_once(data: bytes) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["limits"]["pad_id"] = 99
        manifest["knobs"][0]["default"] = 9
        for segment in manifest["segments"]:
            segment["file"] = "no.onnx"

    with pytest.raises(ManifestError) as caught:
        parse_manifest(edited(data, change))
    for field in ("$.limits.pad_id", "$.knobs[0].default", *(f"$.segments[{k}]" for k in range(3))):
        assert field in str(caught.value)
