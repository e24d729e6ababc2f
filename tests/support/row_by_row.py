"""The meaning of a bundle as slowly and plainly as possible: one row at a time, nothing padded."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from effbert.runtime.bundle.parse import parse_manifest


class RowByRow:
    """Runs every segment on one row, then looks at its `exit`."""

    def __init__(self, bundle: Path) -> None:
        self.manifest = parse_manifest((bundle / "effbert.json").read_bytes())
        self._sessions = [
            onnxruntime.InferenceSession(bundle / segment.file, providers=["CPUExecutionProvider"])
            for segment in self.manifest.segments
        ]

    def __call__(self, ids: list[int], knobs: dict[str, Any]) -> tuple[int, float, dict[str, Any]]:
        """Exit index, signal and outputs of one row; a list in `knobs` holds one value an exit."""
        tensors = {
            "input_ids": np.array([ids]),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "token_type_ids": np.zeros((1, len(ids)), np.int64),
        }
        for state in self.manifest.states:
            tensors[state.name] = np.full(1, state.initial).astype(state.dtype)
        for index, (segment, session) in enumerate(
            zip(self.manifest.segments, self._sessions, strict=True)
        ):
            for knob in self.manifest.knobs:
                value = knobs.get(knob.name, knob.default)
                value = value[index] if isinstance(value, list) else value
                tensors[knob.name] = np.array(value, knob.dtype)
            feeds = {item.name: tensors[item.name] for item in segment.inputs}
            names = [item.name for item in segment.outputs]
            out = dict(zip(names, session.run(names, feeds), strict=True))
            tensors |= {name: out[source] for name, source in segment.carries.items()}
            if out["exit"][0]:
                outputs = {name: out[name][0] for name in self.manifest.outputs}
                return index, float(out["signal"][0]), outputs
        raise AssertionError("the last segment did not exit")
