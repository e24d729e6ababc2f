"""What must hold of every bundle with exits, as functions of a session and a reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import minimal_host
from effbert.runtime import Session
from reference import load_checkpoint

LOGITS_ATOL = 1e-4
NEAR_THRESHOLD = 1e-5
ROW_ATOL = 2e-6
EPSILON = float(np.finfo(np.float32).eps)
Rows = Sequence[Sequence[int]]


def batch(rows: Rows, fill: int = 0, extra: int = 0) -> dict[str, np.ndarray]:
    """Pad rows with the id `fill` to the longest, and by `extra` more columns."""
    length = max(len(row) for row in rows) + extra
    ids = np.full((len(rows), length), fill, np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def batches(rows: Rows, sizes: Sequence[int]) -> Iterator[Rows]:
    """Split rows into batches whose sizes go round and round."""
    start = turn = 0
    while start < len(rows):
        yield rows[start : start + sizes[turn % len(sizes)]]
        start += sizes[turn % len(sizes)]
        turn += 1


def pad_id(session: Session) -> int:
    return session.bundle.manifest.limits.pad_id


def run(
    session: Session, rows: Rows, knobs: dict[str, Any], sizes: Sequence[int]
) -> dict[str, Any]:
    """Answer rows in batches of these sizes: exit_index, logits and signal, row by row."""
    results = [session.run(batch(part, pad_id(session)), knobs) for part in batches(rows, sizes)]
    return {
        name: np.concatenate([getattr(result, name) for result in results])
        for name in ("exit_index", "exit_layer", "signal", "logits")
    }


def clear_rows(reference: Any, rows: Rows, **knobs: Any) -> list[tuple[int, Sequence[int]]]:
    """Rows with their numbers, those aside whose signal comes within 1e-5 of a threshold."""
    far = [
        (i, row) for i, row in enumerate(rows) if reference.margin(row, **knobs) > NEAR_THRESHOLD
    ]
    assert len(far) >= 0.97 * len(rows), "too many rows sit on the threshold"
    return far


def check_every_exit(session: Session, reference: Any, rows: Rows) -> None:
    """Logits of all exits equal the reference's, with rows of many lengths in one batch."""
    for part in batches(rows, (1, 5, 16)):
        found = session.run_exits(batch(part, pad_id(session)))["logits"]
        for i, row in enumerate(part):
            expected = np.stack([logits.numpy() for logits in reference.exits(row)])
            np.testing.assert_allclose(found[:, i], expected, atol=LOGITS_ATOL, rtol=0)


def check_decisions(
    session: Session, reference: Any, rows: Rows, knobs: dict[str, Any], sizes: Sequence[int]
) -> list[int]:
    """Exits, answers and signals equal those of the paper's loop, row by row.

    Rows whose signal comes within 1e-5 of a threshold are left out, which may be a few at most.

    Returns:
        The exit numbers met, from 1, sorted and without repeats.
    """
    found = run(session, rows, knobs, sizes)
    clear = [i for i, _ in clear_rows(reference, rows, **knobs)]
    expected = {i: reference.decide(rows[i], **knobs) for i in clear}
    wrong = {
        i: (found["exit_index"][i] + 1, expected[i].exit_number)
        for i in clear
        if found["exit_index"][i] + 1 != expected[i].exit_number
    }
    assert not wrong, f"row: (exit, expected exit) {wrong}"
    layers = np.array([exit_.layer for exit_ in session.exits])
    np.testing.assert_array_equal(found["exit_layer"], layers[found["exit_index"]])
    for i in clear:
        np.testing.assert_allclose(found["logits"][i], expected[i].logits, atol=LOGITS_ATOL, rtol=0)
        assert math.isclose(found["signal"][i], expected[i].signal, abs_tol=LOGITS_ATOL)
    return sorted({decision.exit_number for decision in expected.values()})


def check_default_knobs(session: Session, reference: Any, rows: Rows) -> None:
    """Without knobs no row leaves early, and the last exit's answer is the model's own."""
    found = run(session, rows, {}, (1, 16))
    assert (found["exit_index"] == len(session.exits) - 1).all()
    for logits, row in zip(found["logits"], rows, strict=True):
        np.testing.assert_allclose(logits, reference.exits(row)[-1], atol=LOGITS_ATOL, rtol=0)


def check_row_independence(
    session: Session, reference: Any, rows: Rows, knobs: dict[str, Any]
) -> None:
    """A row's answer does not depend on batch-mates, their order, padding or split."""
    clear = [reference.margin(row, **knobs) > NEAR_THRESHOLD for row in rows]
    rows = [row for row, ok in zip(rows, clear, strict=True) if ok and len(row) <= 40]
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = run(session, [rows[i] for i in order], knobs, (len(rows),))
    padded = session.run(batch(rows, fill=7, extra=8), knobs)  # 7 is an ordinary token
    alone = run(session, rows, knobs, (1,))
    others = [
        {name: value[np.argsort(order)] for name, value in shuffled.items()},
        {name: getattr(padded, name) for name in alone},
        run(session, rows, knobs, (7, 2)),
    ]
    for other in others:
        np.testing.assert_array_equal(other["exit_index"], alone["exit_index"])
    for name in ("logits", "signal"):
        worst = max(np.abs(other[name] - alone[name]).max() for other in others)
        # A few roundings of float32 are more than that where logits are large.
        assert worst <= max(ROW_ATOL, 4 * EPSILON * np.abs(alone[name]).max()), name
        print(f"{session.bundle.path}: {name} differ by {worst:.2g}")


def check_minimal_host(session: Session, rows: Rows, knobs: dict[str, Any]) -> None:
    """The smallest host decides and answers as Session does."""
    inputs = batch(rows, pad_id(session))
    ours = session.run(inputs, knobs)
    theirs = minimal_host.run(str(session.bundle.path), inputs, knobs)
    for name in ("exit_index", "exit_layer"):
        np.testing.assert_array_equal(theirs[name], getattr(ours, name))
    for name in ("logits", "signal"):
        np.testing.assert_allclose(theirs[name], getattr(ours, name), atol=ROW_ATOL, rtol=0)


def check_size(bundle: Path, checkpoint: Path) -> None:
    """A bundle is at most 2 % larger than one graph of the backbone, plus the heads' weights."""
    tensors = load_checkpoint(checkpoint)[1]
    heads = sum(t.nbytes for k, t in tensors.items() if "classifier" in k or "pooler" in k)
    monolith = sum(t.nbytes for t in tensors.values()) - heads
    for segment in bundle.glob("*.onnx"):
        graph = onnx.load(segment, load_external_data=False).graph
        monolith += sum(node.ByteSize() for node in graph.node)
    size = sum(file.stat().st_size for file in bundle.iterdir())
    assert size <= 1.02 * monolith + heads, f"{size} bytes for {monolith} + {heads}"
