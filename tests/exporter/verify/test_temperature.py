"""Temperatures fitted on labelled logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from effbert.exporter.verify.temperature import fit_temperatures
from effbert.runtime.errors import InputError
from effbert.runtime.points.reliability import LEAST, MOST


def sampled(
    temperature: float, rows: int = 20_000, classes: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [rows, classes] that are right as often as they say once divided by `temperature`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (rows, classes)) * temperature
    noise = rng.gumbel(size=logits.shape)
    return logits.astype(np.float32), (logits / temperature + noise).argmax(axis=-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float):
    logits, labels = sampled(temperature)
    [found] = fit_temperatures(logits[None], labels)
    assert found == pytest.approx(temperature, rel=0.03)


def test_every_exit_has_its_own():
    logits, labels = sampled(1.0)
    found = fit_temperatures(np.stack([logits, 4 * logits, logits / 4]), labels)
    assert found[1] / found[0] == pytest.approx(4, rel=1e-3)
    assert found[0] / found[2] == pytest.approx(4, rel=1e-3)


def test_no_other_temperature_makes_the_labels_likelier():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 5, (4, 200, 5)).astype(np.float32)
    labels = np.where(rng.random(200) < 0.6, logits[0].argmax(-1), rng.integers(0, 5, 200))
    for each, found in zip(logits, fit_temperatures(logits, labels), strict=True):
        tried = [found, *np.geomspace(LEAST, MOST, 400)]
        losses = [
            F.cross_entropy(torch.from_numpy(each / np.float32(t)), torch.from_numpy(labels)).item()
            for t in tried
        ]
        assert losses[0] <= min(losses) + 1e-5


@pytest.mark.parametrize("sign, expected", [(1, LEAST), (-1, MOST)])
def test_exits_that_are_always_right_or_wrong_get_the_ends(sign: int, expected: float):
    labels = np.array([0, 1, 0, 1])
    logits = 0.1 * sign * np.eye(2, dtype=np.float32)[labels]
    assert fit_temperatures(logits[None], labels) == [pytest.approx(expected, rel=1e-3)]


def test_large_logits_do_not_overflow():
    labels = np.array([0, 1, 1, 0])
    logits = 1e4 * np.eye(2, dtype=np.float32)[[0, 1, 0, 0]]
    [found] = fit_temperatures(logits[None], labels)
    assert math.isfinite(found)
    assert found == pytest.approx(MOST, rel=1e-3)


@pytest.mark.parametrize(
    "logits, labels, said",
    [
        (np.zeros((2, 3)), np.zeros(3, int), r"Logits are \[2, 3\]"),
        (np.zeros((1, 3, 2)), np.zeros(4, int), r"labels \[4\]"),
        (np.zeros((1, 0, 2)), np.zeros(0, int), "none of them 0"),
        (np.full((1, 3, 2), np.nan), np.zeros(3, int), "not finite"),
        (np.zeros((1, 3, 2)), np.array([0, 1, 2]), "from 0 to 1"),
        (np.zeros((1, 3, 2)), np.array([0, -1, 1]), "from 0 to 1"),
        (np.zeros((1, 3, 2)), np.array([0.0, 1.0, 1.0]), "integers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(logits: np.ndarray, labels: np.ndarray, said: str):
    with pytest.raises(InputError, match=said):
        fit_temperatures(logits, labels)
