"""What torch says about rows: the answers that the segments are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from effbert.exporter.models.exit_model import INPUT_NAMES, OVERRIDE, WORD_MAP, ExitModel
from effbert.exporter.rows.batching import equal_lengths, padded_batch, rows_alone, similar_lengths
from effbert.exporter.rows.rows import Row
from effbert.exporter.trace import knob_values, never_knobs

ROUNDING = 1e-5  # a threshold may be crossed by as much

Outputs = dict[str, list[np.ndarray]]


class Choice(NamedTuple):
    """What a row may answer at some knob values, and where tokens leave alone their layers."""

    outputs: dict[str, np.ndarray]
    exit_layer: np.ndarray | None


@dataclass(frozen=True)
class Trial:
    """Knob values that the model itself reads, and for some rows all choices that are right.

    More than one is right where rounding decides.
    """

    knobs: Mapping[str, Any]
    choices: Mapping[int, Sequence[Choice]]


@dataclass(frozen=True)
class Reference:
    """What torch says about each row: output name -> per row [exits, ...].

    Beside the answers there are the extra outputs of exits, and `override_logits` per row [...].
    """

    rows: Sequence[Row]
    answers: tuple[str, ...]
    outputs: Outputs
    trials: Sequence[Trial]


def torch_reference(model: ExitModel, rows: Sequence[Row], *, exactly: bool = False) -> Reference:
    """Run every row through torch, with the 0/1 mask that transformers itself prepares.

    Where padding has no effect, rows of similar length share a batch and a few run alone again, so
    that a mistake in that assumption shows; elsewhere only rows of equal length run together.

    Args:
        model: Its weights become float64 where it is to answer `exactly`.
        rows: The rows.
        exactly: Compute and answer in float64.
    """
    dtype = torch.float64 if exactly else torch.float32
    described = model.to(dtype).description
    never = knob_values(described, list(never_knobs(described).values()))
    outputs: Outputs = {}
    for members in _batches(rows, padding_free=described.padding_free):
        exits = _run(model, [rows[i] for i in members], never)
        for name in (*described.outputs, *described.extras):
            values = np.stack([answer[name].to(dtype).numpy() for _, answer in exits], axis=1)
            by_token = described.task != "text-classification" and name in described.outputs
            kept = outputs.setdefault(name, [np.empty(0)] * len(rows))
            for index, member in enumerate(members):
                length = len(rows[member].input_ids) if by_token else None
                kept[member] = values[index][:, :length] if by_token else values[index]
        if OVERRIDE in exits[-1][1]:
            kept = outputs.setdefault(OVERRIDE, [np.empty(0)] * len(rows))
            for index, member in enumerate(members):
                kept[member] = exits[-1][1][OVERRIDE][index].to(dtype).numpy()
    trials = [_trial(model, rows, knobs) for knobs in described.trials]
    return Reference(rows, described.outputs, outputs, trials)


def _trial(model: ExitModel, rows: Sequence[Row], knobs: Mapping[str, Any]) -> Trial:
    choices = {
        index: [_chosen(model, rows[index], knobs, shift) for shift in (0, ROUNDING, -ROUNDING)]
        for [index] in rows_alone(rows)
    }
    return Trial(knobs, choices)


def _chosen(model: ExitModel, row: Row, knobs: Mapping[str, Any], shift: float) -> Choice:
    described = model.description
    values = never_knobs(described)
    for knob in described.knobs:
        for name in [name for name in values if name.startswith(knob.name)]:
            if knob.name in knobs and knob.dtype == "float32":
                wanted = torch.tensor(knobs[knob.name], dtype=torch.float32)
                values[name] = wanted if knob.unit == "tokens" else wanted + shift
    exits = _run(model, [row], knob_values(described, list(values.values())))
    answer = {name: value[0].numpy() for name, value in exits[-1][1].items()}
    outputs = {name: answer[name] for name in described.outputs}
    return Choice(outputs, answer.get("exit_layer"))


def _run(model: ExitModel, rows: Sequence[Row], knobs: Mapping[str, Any]) -> list[Any]:
    described = model.description
    inputs = padded_batch(rows, described.limits.pad_id, (*INPUT_NAMES, WORD_MAP))
    ids, mask, types, words = (torch.from_numpy(value) for value in inputs.values())
    more = {WORD_MAP: words} if WORD_MAP in described.inputs else {}
    typed = "token_type_ids" in described.inputs
    with torch.inference_mode():
        return model.exits(ids, mask, types if typed else None, **more, **knobs)


def _batches(rows: Sequence[Row], *, padding_free: bool) -> Iterator[list[int]]:
    if not padding_free:
        yield from equal_lengths(rows)
        return
    yield from similar_lengths(rows)
    yield from rows_alone(rows)
