"""Genes, the front, and FLOPs of what they stand for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effbert.exporter.encoders.length_drop import _target
from effbert.runtime.points.costs import row_flops, tokens_kept
from effbert.runtime.points.evolution import (
    Evaluated,
    Outcome,
    pareto_front,
    survivors,
)
from effbert.runtime.points.genes import (
    Gene,
    Space,
    crossed,
    drop_that_keeps,
    falling_lengths,
    first_genes,
    mutated,
    share_kept,
)

SPACES = st.builds(Space, layers=st.integers(1, 13), tokens=st.integers(2, 512))
SEEDS = st.integers(0, 2**32)


def valid(gene: Gene, space: Space) -> bool:
    return (
        len(gene) == space.layers
        and list(gene) == sorted(gene, reverse=True)
        and all(2 <= length <= space.tokens for length in gene)
    )


@pytest.mark.parametrize(
    "tokens, expected",
    [
        (128, [103, 83, 67, 54, 44, 36, 29, 24, 20, 16, 13, 11]),
        (384, [308, 247, 198, 159, 128, 103, 83, 67, 54, 44, 36, 29]),
    ],
)
def test_the_cheapest_schedule_is_that_of_the_paper(tokens: int, expected: list[int]) -> None:
    assert list(falling_lengths(0.2, 12, tokens)) == expected


def test_uniform_ratios_are_those_of_the_paper() -> None:
    least = share_kept(0.2, 12, 384)
    assert least == pytest.approx(0.3159722, abs=1e-7)
    shares = np.linspace(least, 1, 22)[1:-1]
    drops = [drop_that_keeps(float(share), 12, 384) for share in shares]
    assert [drops[0], drops[1], drops[-2]] == pytest.approx([0.18056, 0.16372, 0.01124], abs=1e-5)


@given(SPACES, st.integers(0, 30))
def test_first_genes_are_valid_new_and_hold_the_full_one(space: Space, count: int) -> None:
    genes = first_genes(space, count)
    assert genes[0] == space.full()
    assert len(set(genes)) == len(genes) <= count + 4
    assert all(valid(gene, space) and space.holds(gene) for gene in genes)


@given(SPACES, SEEDS, st.floats(0, 1))
def test_mutations_never_grow_and_stay_in_range(
    space: Space, seed: int, probability: float
) -> None:
    random = np.random.default_rng(seed)
    gene = space.full()
    for _ in range(20):
        gene = mutated(gene, space, probability, random)
        assert valid(gene, space)


def test_a_mutation_changes_nothing_at_probability_0_and_reaches_everything_at_1() -> None:
    random, space = np.random.default_rng(0), Space(2, 4)
    assert mutated((3, 2), space, 0, random) == (3, 2)
    reached = {mutated((3, 2), space, 1, random) for _ in range(300)}
    assert reached == {(2, 2), (3, 2), (3, 3), (4, 2), (4, 3), (4, 4)}


@given(SPACES, SEEDS)
def test_a_crossed_gene_lies_between_its_parents(space: Space, seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (mutated(space.full(), space, 0.7, random) for _ in range(2))
    child = crossed(one, other)
    assert valid(child, space)
    for length, *parents in zip(child, one, other, strict=True):
        assert min(parents) <= length <= max(parents)


OUTCOMES = st.builds(Outcome, st.integers(0, 5), st.integers(1, 5))


@given(st.lists(OUTCOMES, min_size=1))
def test_the_front_is_what_nothing_beats(outcomes: list[Outcome]) -> None:
    unbeaten = {
        (quality, cost)
        for quality, cost in outcomes
        if not any((q >= quality and c <= cost) and (q, c) != (quality, cost) for q, c in outcomes)
    }
    assert [tuple(outcomes[index]) for index in pareto_front(outcomes)] == sorted(unbeaten)


@given(st.lists(st.lists(OUTCOMES, min_size=1, max_size=4), min_size=1))
def test_a_gene_survives_by_any_of_its_outcomes(genes: list[list[Outcome]]) -> None:
    items = [Evaluated((at,), tuple(each), 0, "first") for at, each in enumerate(genes)]
    living = survivors(items)
    every = [outcome for item in items for outcome in item.outcomes]
    best = {tuple(every[index]) for index in pareto_front(every)}
    assert best <= {tuple(outcome) for item in living for outcome in item.outcomes}
    assert max(cost for item in living for _, cost in item.outcomes) == max(c for _, c in every)


@given(
    st.lists(st.floats(2**-7, 1, width=32), min_size=1, max_size=12),
    st.lists(st.integers(2, 512), min_size=1, max_size=9),
)
def test_tokens_are_counted_as_the_graph_keeps_them(shares: list[float], rows: list[int]) -> None:
    found = tokens_kept(np.array(rows), np.array(shares))
    for layer, share in enumerate(shares, 1):
        expected = _target(torch.tensor(share), torch.tensor(rows), torch.tensor(rows))
        assert found[layer].tolist() == expected.tolist()


def test_counts_of_tokens_are_clamped_to_the_row() -> None:
    found = tokens_kept(np.array([3, 9]), np.array([5, 5, 1]))
    assert found.tolist() == [[3, 9], [3, 5], [3, 5], [1, 1]]


HIDDEN, INNER, LAYERS = 768, 3072, 12
FEED_FORWARD, PROJECTIONS, POOLER = 4 * HIDDEN * INNER, 8 * HIDDEN**2, 2 * HIDDEN**2


@pytest.mark.parametrize("one_token", [False, True])
def test_flops_are_those_of_the_analytic_count(one_token: bool) -> None:
    tokens = np.array([128])
    whole = LAYERS - one_token
    narrow = one_token * (PROJECTIONS / 2 + 8 * HIDDEN)  # keys, values, attention of two queries
    constant = POOLER + one_token * 2 * (PROJECTIONS / 2 + FEED_FORWARD)
    linear = whole * (PROJECTIONS + FEED_FORWARD) + narrow
    segment = SimpleNamespace(flops=(constant, linear, whole * 4 * HIDDEN), layer=LAYERS)
    manifest = SimpleNamespace(segments=[segment])
    full = row_flops(manifest, None, tokens)
    shares = np.array(falling_lengths(0.2, LAYERS, 128)) / 128
    lengths = tokens_kept(tokens, shares)
    entering, leaving = lengths[:-1, 0].astype(float), lengths[1:, 0].astype(float)
    choice = 2 * HIDDEN * (leaving < entering)
    layers = PROJECTIONS * entering + (4 * HIDDEN + choice) * entering**2 + FEED_FORWARD * leaving
    expected = constant + layers[:whole].sum() + narrow * entering[-1]
    assert row_flops(manifest, lengths, tokens) == pytest.approx(expected)
    unshortened = tokens_kept(tokens, np.ones(LAYERS))
    assert row_flops(manifest, unshortened, tokens) == pytest.approx(full)
    if not one_token:
        assert expected / full[0, 0] == pytest.approx(0.3515, abs=1e-3)
