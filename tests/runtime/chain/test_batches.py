"""Rows that share a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effbert.runtime import by_length
from effbert.runtime.chain.batches import split_batch
from effbert.runtime.chain.inputs import Batch
from effbert.runtime.errors import InputError


@given(lengths=st.lists(st.integers(1, 512)), rows=st.integers(1, 40))
def test_batches_hold_every_row_once_and_the_shortest_first(lengths: list[int], rows: int) -> None:
    batches = list(by_length(lengths, rows))
    places = [place for batch in batches for place in batch]
    assert sorted(places) == list(range(len(lengths)))
    assert [lengths[place] for place in places] == sorted(lengths)
    assert all(len(batch) == rows for batch in batches[:-1])


def test_a_batch_of_no_rows_is_refused() -> None:
    with pytest.raises(InputError, match="got 0"):
        list(by_length([3, 4], 0))


@pytest.mark.parametrize("limit, sizes", [(100, [5]), (12, [3, 2]), (4, [1] * 5), (1, [1] * 5)])
def test_a_batch_is_split_where_it_has_too_many_tokens(limit: int, sizes: list[int]) -> None:
    ids = np.arange(20).reshape(5, 4)
    batch = Batch({"input_ids": ids, "attention_mask": np.ones_like(ids)}, 5, 4)
    found = list(split_batch(batch, padding_free=True, max_tokens=limit))
    assert [len(rows) for rows, _ in found] == sizes
    np.testing.assert_array_equal(np.concatenate([part["input_ids"] for _, part in found]), ids)
