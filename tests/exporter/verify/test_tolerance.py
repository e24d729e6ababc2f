"""What counts as rounding: by the scale of the answers, and measured against float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from effbert.exporter import export, segments
from effbert.exporter.verify import findings
from effbert.exporter.verify.parity import Allowed, Compared
from effbert.exporter.verify.tolerance import fixed, scaled
from effbert.runtime.checks.replay import validate
from effbert.runtime.errors import ParityError
from matrices import slow_but
from systems.sentee_checkpoint import write_sentee
from weights_edits import read_weights, write_weights

ROWS = [np.random.default_rng(row).normal(size=(2, 3)) for row in range(20)]
SCALES = [0.01, 1, 10, 100]


def beyond(scale: float, change: Callable[[np.ndarray], np.ndarray], atol: float | None) -> list:
    """At which of two exits answers of a scale differ by more than rounding, once changed."""
    expected = [row * scale for row in ROWS]
    answers = [("logits", index, change(row)) for index, row in enumerate(expected)]
    tolerance = Allowed(atol, 1e-4).of({"logits": expected}, 2)
    return Compared(2, {"logits": expected}, answers).beyond(tolerance).tolist()


@pytest.mark.parametrize("scale", SCALES)
def test_a_relative_error_of_a_thousandth_is_seen_at_every_scale(scale: float) -> None:
    def off(row: np.ndarray) -> np.ndarray:
        return row * [[1.0], [1.001]]

    assert beyond(scale, off, None) == [False, True]


@pytest.mark.parametrize("scale", SCALES)
def test_rounding_is_allowed_at_every_scale(scale: float) -> None:
    rng = np.random.default_rng(1)
    assert beyond(scale, lambda row: row + rng.normal(size=row.shape) * 1e-5 * scale, None) == [
        False,
        False,
    ]


def test_one_huge_logit_does_not_hide_errors_of_the_others() -> None:
    expected = [np.concatenate([row, np.full((2, 1), 1e4)], axis=1) for row in ROWS]
    answers = [("logits", i, row * 1.001) for i, row in enumerate(expected)]
    answers = [(name, i, np.where(row > 1e3, 1e4, row)) for name, i, row in answers]
    tolerance = scaled({"logits": expected}, 2, 1e-4)
    assert Compared(2, {"logits": expected}, answers).beyond(tolerance).all()


def test_what_is_not_finite_differs() -> None:
    assert beyond(1, lambda row: row * np.nan, None) == [True, True]
    assert beyond(1, lambda row: row + np.inf, None) == [True, True]


def test_the_users_tolerance_is_absolute() -> None:
    assert beyond(100, lambda row: row + 1e-3, 1e-4) == [True, True]
    assert beyond(0.01, lambda row: row + 1e-5, 1e-4) == [False, False]
    assert fixed(0.5, 2).allowed(np.ones((2, 3))).max() == 0.5


def spoil(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Multiply the classifier of every segment."""
    attach = segments.attach

    def attach_and_change(model: ir.Model, *arguments: Any, **options: Any) -> Any:
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor is not None and 3 in tensor.shape:
                value.const_value = ir.tensor(tensor.numpy() * np.float32(factor), name=name)
        return attach(model, *arguments, **options)

    monkeypatch.setattr(segments, "attach", attach_and_change)


def with_scale(checkpoint: Path, scale: float) -> Path:
    tensors = read_weights(checkpoint)
    for part in ("weight", "bias"):
        tensors[f"classifier.{part}"] *= scale
    return write_weights(checkpoint, tensors)


@pytest.mark.parametrize("scale", slow_but([0.05, 200], 0.05))
def test_a_bundle_is_verified_and_validated_by_the_scale_of_its_logits(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    report = export(with_scale(plain, scale), tmp_path / "bundle")
    parity = report.manifest.parity
    assert parity.max_abs_diff[0] < 0.1 * parity.atol
    assert validate(tmp_path / "bundle").max_abs_diff <= parity.atol
    spoil(monkeypatch, 1.001)
    with pytest.raises(ParityError, match="differs from torch"):
        export(plain, tmp_path / "spoilt")


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call nothing rounding, so that float64 always decides."""
    monkeypatch.setattr(findings, "Allowed", lambda atol, _: Allowed(atol, 1e-12))


@pytest.mark.slow
@pytest.mark.usefixtures("strict")
def test_float64_tells_rounding_from_an_error(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parity = export(plain, tmp_path / "bundle").manifest.parity
    assert 0 < parity.max_abs_diff[0] <= parity.atol < 1e-4
    spoil(monkeypatch, 1.001)
    with pytest.raises(ParityError, match="differs from torch"):
        export(plain, tmp_path / "spoilt")


@pytest.mark.usefixtures("strict")
@pytest.mark.slow
def test_float64_decides_about_words_that_leave_alone(tmp_path: Path) -> None:
    checkpoint = write_sentee(tmp_path / "c", layers=2, keep_norm_same=1)
    assert export(checkpoint, tmp_path / "bundle").manifest.parity.decisions > 0
