"""Compare a written bundle with the torch model it comes from, exit by exit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from effbert.exporter.model import INPUT_NAMES, OVERRIDE, ExitModel
from effbert.exporter.oracle import PolicyOracle
from effbert.exporter.rows import Row
from effbert.runtime import Session
from effbert.runtime.errors import ParityError
from effbert.runtime.manifest import Parity

BATCH = 16
ALONE = 8
DECIDED = 32
SHORT = 64

Outputs = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class Reference:
    """What torch says about each row: output name -> per row [exits, ...]."""

    rows: Sequence[Row]
    outputs: Outputs
    override: list[np.ndarray] | None


def torch_reference(model: ExitModel, rows: Sequence[Row]) -> Reference:
    """Run every row through torch, with the 0/1 mask that transformers itself prepares.

    Where padding has no effect, rows of similar length share a batch and a few run alone again, so
    that a mistake in that assumption shows; elsewhere only rows of equal length run together.
    """
    names = model.description.outputs
    outputs: Outputs = {name: [np.empty(0)] * len(rows) for name in names}
    override: list[np.ndarray] = [np.empty(0)] * len(rows)
    overrides = False
    for members in _batches(rows, padding_free=model.description.padding_free):
        part = [rows[i] for i in members]
        inputs = padded_batch(part, model.description.limits.pad_id, INPUT_NAMES)
        ids, mask, types = (torch.from_numpy(inputs[name]) for name in INPUT_NAMES)
        typed = "token_type_ids" in model.description.inputs
        with torch.inference_mode():
            exits = model.exits(ids, mask, types if typed else None)
        for name in names:
            stacked = np.stack([answer[name].float().numpy() for _, answer in exits], axis=1)
            by_token = model.description.task != "text-classification"
            for place, member in enumerate(members):
                length = len(rows[member].input_ids)
                outputs[name][member] = stacked[place][:, :length] if by_token else stacked[place]
        if OVERRIDE in exits[-1][1]:
            overrides = True
            for place, member in enumerate(members):
                override[member] = exits[-1][1][OVERRIDE][place].float().numpy()
    return Reference(rows, outputs, override if overrides else None)


def verify(
    session: Session,
    reference: Reference,
    oracle: PolicyOracle,
    atol: float,
) -> Parity:
    """Check logits of every exit, padded and alone, and the exit decisions.

    Raises:
        ParityError: an exit's outputs differ by more than `atol`, or a row leaves elsewhere than
            the policy says; names the first segment that differs.
    """
    chunks = [*_similar_lengths(reference.rows), *_alone(reference.rows)]
    worst = np.zeros(len(session.exits))
    found: Outputs = {name: [np.empty(0)] * len(reference.rows) for name in reference.outputs}
    for chunk in chunks:
        answers = session.run_exits(batch([reference.rows[i] for i in chunk], session))
        for name, expected in reference.outputs.items():
            for place, i in enumerate(chunk):
                found[name][i] = _real(answers[name][:, place], expected[i])
                worst = np.maximum(worst, _difference(found[name][i], expected[i]))
    _require_parity(session, worst, atol)
    decisions, near = _compare_decisions(session, reference, found, oracle, atol)
    return Parity(
        atol=atol,
        rows=len(reference.rows),
        max_abs_diff=[float(f"{value:.3g}") for value in worst],
        decisions=decisions,
        decisions_near_threshold=near,
    )


def batch(rows: Sequence[Row], session: Session) -> dict[str, np.ndarray]:
    """Pad rows to one int64 batch of a session's inputs."""
    manifest = session.bundle.manifest
    return padded_batch(rows, manifest.limits.pad_id, [item.name for item in manifest.inputs])


def padded_batch(rows: Sequence[Row], pad_id: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Pad rows at the end to int64 [rows, longest], for each named input."""
    shape = len(rows), max(len(row.input_ids) for row in rows)
    ids = np.full(shape, pad_id, np.int64)
    mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for place, row in enumerate(rows):
        length = len(row.input_ids)
        ids[place, :length], mask[place, :length] = row.input_ids, 1
        types[place, :length] = row.token_type_ids
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: every[name] for name in names}


def _batches(rows: Sequence[Row], *, padding_free: bool) -> Iterator[list[int]]:
    if not padding_free:
        yield from _equal_lengths(rows)
        return
    yield from _similar_lengths(rows)
    yield from _alone(rows)


def _alone(rows: Sequence[Row]) -> Iterator[list[int]]:
    """A few short rows, each for itself."""
    short = _short(rows)
    yield from ([index] for index in short[:: len(short) // ALONE + 1])


def _equal_lengths(rows: Sequence[Row]) -> Iterator[list[int]]:
    lengths: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        lengths.setdefault(len(row.input_ids), []).append(index)
    for members in lengths.values():
        for start in range(0, len(members), BATCH):
            yield members[start : start + BATCH]


def _similar_lengths(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Batches that need padding, but never more than as many padding tokens as real ones."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: len(rows[i].input_ids)):
        if batch and (
            len(batch) == BATCH or len(rows[index].input_ids) > 2 * len(rows[batch[0]].input_ids)
        ):
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _short(rows: Sequence[Row]) -> list[int]:
    return [index for index, row in enumerate(rows) if len(row.input_ids) <= SHORT]


def _real(answer: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Cut a token-level answer [exits, sequence, ...] to the row's real tokens."""
    return answer[tuple(slice(extent) for extent in expected.shape)]


def _difference(answer: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Largest absolute difference at each exit; anything not finite counts as infinite."""
    difference = np.abs(answer.astype(np.float64) - expected).reshape(len(expected), -1).max(axis=1)
    return np.where(np.isfinite(difference), difference, np.inf)


def _require_parity(session: Session, worst: np.ndarray, atol: float) -> None:
    wrong = np.flatnonzero(worst > atol)
    if len(wrong):
        first = session.exits[int(wrong[0])]
        raise ParityError(
            f"{first.file} (exit after layer {first.layer}) differs from torch by "
            f"{worst[wrong[0]]:.3g}, more than {atol:g}; nothing was written. If that is good "
            "enough for you pass --atol, otherwise please report the model type."
        )


def _compare_decisions(
    session: Session, reference: Reference, found: Outputs, oracle: PolicyOracle, atol: float
) -> tuple[int, int]:
    """Run with a few knob settings; each row must leave where torch's logits or ours say.

    Returns:
        Decisions compared, and how many differ from torch's because rounding crossed a threshold.
    """
    if not session.knobs or "logits" not in found:
        return 0, 0
    by_length = sorted(_short(reference.rows), key=lambda i: len(reference.rows[i].input_ids))
    chosen = np.array(by_length[:DECIDED], np.int64)
    if not len(chosen):
        return 0, 0
    theirs = np.stack([reference.outputs["logits"][i] for i in chosen], axis=1)
    ours = np.stack([found["logits"][i] for i in chosen], axis=1)
    override = None if reference.override is None else np.stack(reference.override)[chosen]
    inputs = batch([reference.rows[i] for i in chosen], session)
    compared = near = 0
    for knobs in oracle.trials(theirs):
        wanted, answers = oracle.decide(theirs, knobs, override)
        rounded, rounded_answers = oracle.decide(ours, knobs, override)
        result = session.run(inputs, knobs=knobs)
        same = result.exit_index == wanted
        distance = [np.abs(result.logits - either) for either in (answers, rounded_answers)]
        close = np.minimum(*distance).max(axis=-1) <= atol
        wrong = np.flatnonzero(np.where(same, ~close, result.exit_index != rounded))
        if len(wrong):
            row = wrong[0]
            first = session.exits[int(min(result.exit_index[row], wanted[row]))]
            raise ParityError(
                f"{first.file} lets a row leave at exit {result.exit_index[row]} where the policy "
                f"says exit {wanted[row]} (knobs {knobs}); nothing was written. Please report it."
            )
        compared += len(chosen)
        near += int((~same).sum())
    return compared, near
