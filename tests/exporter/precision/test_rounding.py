"""Weights rounded for what they are multiplied with."""

from __future__ import annotations

import numpy as np
import pytest

from effbert.exporter.precision.rounding import error_spread, round_with
from effbert.graph_passes.int8 import quantize_weight
from weighted_graphs import normal


def vectors(count: int, size: int, seed: int) -> np.ndarray:
    """Correlated vectors with a few large features, as activations are."""
    mix = normal(size // 4, size, seed=100)
    loud = np.where(np.arange(size) % 17 == 0, 10, 1).astype(np.float32)
    return (normal(count, size // 4, seed=seed) @ mix + normal(count, size, seed=seed + 1)) * loud


def error(inputs: np.ndarray, weight: np.ndarray, rounded: tuple[np.ndarray, np.ndarray]) -> float:
    return float(np.linalg.norm(inputs @ (rounded[0] * rounded[1] - weight)))


@pytest.mark.parametrize("size", [32, 50, 96])
@pytest.mark.parametrize("count", [40, 400])
def test_products_of_new_vectors_are_nearer_than_those_of_plain_rounding(size: int, count: int):
    weight = normal(size, 24, seed=3)
    rounded = round_with(error_spread(vectors(count, size, 5)), weight)
    unseen = vectors(300, size, 7)
    assert error(unseen, weight, rounded) < 0.9 * error(unseen, weight, quantize_weight(weight))


@pytest.mark.parametrize("size", [32, 50, 96])
def test_blocks_of_rows_are_the_row_by_row_algorithm(size: int):
    inputs, weight = vectors(200, size, 5), normal(size, 24, seed=3)
    spread = error_spread(inputs)
    levels, scales = round_with(spread, weight)
    left, slow = weight.astype(np.float64), np.empty_like(weight)
    for i in range(size):
        slow[i] = np.clip(np.rint(left[i] / scales), -127, 127)
        lost = (left[i] - slow[i] * scales) / spread[i, i]
        left[i:] -= np.outer(spread[i, i:], lost)
    assert (levels != slow).mean() < 0.01  # ties, in float32
    assert error(inputs, weight, (levels, scales)) == pytest.approx(
        error(inputs, weight, (slow, scales)), rel=0.02
    )


@pytest.mark.parametrize("size", [32, 50])
def test_vectors_of_zeros_round_as_if_there_were_none(size: int):
    weight = normal(size, 24)
    spread = error_spread(np.zeros((3, size), np.float32))
    np.testing.assert_allclose(spread, np.eye(size), atol=1e-7)
    for found, plain in zip(round_with(spread, weight), quantize_weight(weight), strict=True):
        np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("count", [1, 20, 63])
def test_fewer_vectors_than_features_give_what_more_give(count: int):
    few = vectors(count, 64, 5)
    more = np.concatenate([few, np.zeros((70, 64), np.float32)])  # the same products
    spread = error_spread(more)
    np.testing.assert_allclose(error_spread(few), spread, rtol=0, atol=1e-4 * spread.max())


def test_the_spread_is_upper_triangular_and_of_the_damped_inverse():
    inputs = vectors(200, 48, 5)
    spread = error_spread(inputs).astype(np.float64)
    np.testing.assert_array_equal(spread, np.triu(spread))
    hessian = inputs.T.astype(np.float64) @ inputs
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(48)
    np.testing.assert_allclose(spread.T @ spread @ hessian, np.eye(48), atol=1e-3)


def test_weights_that_need_no_rounding_stay():
    levels = np.random.default_rng(0).integers(-127, 128, (64, 16)).astype(np.int8)
    levels[0] = 127
    levels[:, 5] = 0
    scales = np.logspace(-4, 1, 16, dtype=np.float32)
    found, steps = round_with(error_spread(vectors(200, 64, 5)), levels * scales)
    np.testing.assert_array_equal(found, levels)
    np.testing.assert_allclose(np.delete(steps, 5), np.delete(scales, 5), rtol=1e-6)
