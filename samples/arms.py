"""The ways to answer that report.py compares: torch, an uncut graph, the bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from numpy import ndarray
from transformers import BertForSequenceClassification

from calibrate import candidates
from effbert.exporter.quiet import quietly
from effbert.runtime import Session

Inputs = dict[str, ndarray]  # int64 [batch, sequence] by name


class Arm(NamedTuple):
    """One way to answer: inputs to logits [batch, labels] and exit layers [batch]."""

    name: str
    answer: Callable[[Inputs], tuple[ndarray, ndarray]]
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
    """Exports the full model as one graph and opens it as onnxruntime does by default."""
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


def arms(checkpoint: Path, bundle: Path, example: Inputs, output: Path) -> Iterator[Arm]:
    threads = torch.get_num_threads()
    with quietly():
        model = BertForSequenceClassification.from_pretrained(checkpoint).eval()
    yield Arm("torch, full model", partial(torch_answer, model))
    uncut = uncut_session(model, example, output / "uncut.onnx", threads)
    depth = model.config.num_hidden_layers
    yield Arm("onnxruntime, uncut graph", partial(uncut_answer, uncut, depth))
    session = Session(bundle, threads=threads)
    yield Arm("effbert, full depth", partial(bundle_answer, session, None))
    manifest = session.bundle.manifest
    for point in manifest.operating_points:
        yield Arm(f"effbert, {point.name}", partial(bundle_answer, session, point.knobs))
    knob = next(iter(session.knobs.values()))
    for value in candidates(knob, len(manifest.labels), len(session.exits))[::5]:
        knobs = {knob.name: value}
        yield Arm(f"{knob.name} {value:g}", partial(bundle_answer, session, knobs), in_table=False)
