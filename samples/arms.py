"""The ways to answer that report.py compares: torch, an uncut graph, shorter texts, bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import onnxruntime
import torch
from numpy import ndarray
from transformers import BertForSequenceClassification

from effbert.exporter.quiet import quietly
from effbert.runtime import Session
from effbert.runtime.bundle.manifest import Knob, OperatingPoint, to_numbers
from truncate import SHARES, Inputs, truncated

LOSSES = (0.5, 2)  # points of accuracy on the held-out texts
CURVE = 4  # points of a front that the plot shows, beside those in the table


T = TypeVar("T")
Answer = Callable[[Inputs], tuple[ndarray, ndarray]]


class Arm(NamedTuple):
    """One way to answer: inputs to logits [batch, labels] and exit layers [batch].

    Arms of one kind are one curve of the plot; those not in the table are only there.
    """

    name: str
    answer: Answer
    kind: str = "full model"
    in_table: bool = True


def torch_answer(model: BertForSequenceClassification, inputs: Inputs) -> tuple[ndarray, ndarray]:
    with torch.inference_mode():
        logits = model(**{name: torch.from_numpy(ids) for name, ids in inputs.items()}).logits
    return logits.numpy(), np.full(len(logits), model.config.num_hidden_layers)


def uncut_answer(
    session: onnxruntime.InferenceSession, layers: int, inputs: Inputs
) -> tuple[ndarray, ndarray]:
    (logits,) = session.run(None, inputs)
    return logits, np.full(len(logits), layers)


def bundle_answer(session: Session, knobs: dict | None, inputs: Inputs) -> tuple[ndarray, ndarray]:
    result = session.run(inputs, knobs=knobs)
    return result.logits, result.exit_layer


def uncut_session(
    model: BertForSequenceClassification, example: Inputs, path: Path, threads: int
) -> onnxruntime.InferenceSession:
    """Export the full model as one graph and open it as onnxruntime does by default."""
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    torch.onnx.export(
        model,
        kwargs={name: torch.from_numpy(np.repeat(ids, 2, 0)) for name, ids in example.items()},
        f=path,
        dynamo=True,
        external_data=False,
        dynamic_shapes=dict.fromkeys(example, dynamic),
        input_names=list(example),
        verbose=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def truncated_answer(answer: Answer, share: float, inputs: Inputs) -> tuple[ndarray, ndarray]:
    return answer(truncated(inputs, share))


def full_arms(checkpoint: Path, example: Inputs, output: Path, threads: int) -> tuple[Arm, Arm]:
    """The full model in torch, and in onnxruntime as one graph."""
    with quietly():
        model = BertForSequenceClassification.from_pretrained(checkpoint).eval()
        uncut = uncut_session(model, example, output / "uncut.onnx", threads)
    depth = model.config.num_hidden_layers
    return (
        Arm("torch, full model", partial(torch_answer, model)),
        Arm("onnxruntime, uncut graph", partial(uncut_answer, uncut, depth)),
    )


def truncated_arms(answer: Answer, chosen: dict[float, float]) -> Iterator[Arm]:
    """Truncated texts: the shares chosen for each loss, then the others."""
    kind = "truncated texts"
    for name, share in by_choice(chosen):
        label = f"uncut graph, {share:.0%} of each text, {name}"
        yield Arm(label, partial(truncated_answer, answer, share), kind)
    for share in sorted({*SHARES} - {*chosen.values()}):
        label = f"uncut graph, {share:.0%} of each text"
        yield Arm(label, partial(truncated_answer, answer, share), kind, in_table=False)


def by_choice(chosen: dict[float, T]) -> Iterator[tuple[str, T]]:
    """A name for each choice; neighbouring losses with the same choice share one."""
    for choice, losses in groupby(chosen, key=lambda loss: chosen[loss]):
        yield " and ".join(f"loss-{loss:g}" for loss in losses), choice


def bundle_arms(bundle: Path, threads: int) -> Iterator[Arm]:
    """A bundle as it is, at its operating points, and at further knob values."""
    session = Session(bundle, threads=threads)
    manifest = session.bundle.manifest
    offers = {"exits": len(session.exits) > 1, "lengths": "lengths" in session.knobs}
    kind = " and ".join(name for name, there in offers.items() if there)
    if not kind:
        raise SystemExit(f"{bundle} has neither exits nor the knob lengths.")
    if manifest.precision != "fp32":
        kind += f", {manifest.precision}"
    yield Arm(f"effbert {kind}, none used", partial(bundle_answer, session, None), kind)
    chosen, others = operating_points(manifest.operating_points)
    if not offers["lengths"]:
        knob = next(iter(session.knobs.values()))
        others += [{knob.name: value} for value in spread(knob, len(session.exits))]
    for name, knobs in chosen.items():
        yield Arm(f"effbert {kind}, {name}", partial(bundle_answer, session, knobs), kind)
    for knobs in others:
        name = f"effbert {kind}, {knobs}"
        yield Arm(name, partial(bundle_answer, session, knobs), kind, in_table=False)


def spread(knob: Knob, exits: int) -> list[float]:
    """A few values for the plot: patiences, or entropies up to that of an even guess of many."""
    if knob.dtype == "int64":
        return [float(patience) for patience in range(1, exits)]
    return [0.02, 0.1, 0.4, 1.5]


def operating_points(points: Sequence[OperatingPoint]) -> tuple[dict[str, dict], list[dict]]:
    """Knob values by name for the table, those named for what they lose; for the plot a front."""
    knobs = {
        each.name: {name: to_numbers(value) for name, value in each.knobs.items()}
        for each in points
    }
    chosen = {name: values for name, values in knobs.items() if name.startswith("loss-")}
    front = [values for name, values in knobs.items() if name.startswith("front-")]
    others = [values for values in front if values not in chosen.values()]
    return chosen, others[:: 1 + len(others) // (CURVE + 1)]
