"""Extents that the host computes, profiles, memory: the small parts of a chain of plans."""

from __future__ import annotations

import numpy as np
import pytest

from effbert.runtime import InputError
from effbert.runtime.engines.plans.executable import Extent, Range, Signature
from effbert.runtime.engines.plans.extents import kept_tokens, rounded_up
from effbert.runtime.engines.plans.fitting import choose_profile, shape_limits
from effbert.runtime.engines.plans.memory_pool import Mirrored, Pool, SentLayout, aligned, layout
from effbert.runtime.engines.plans.resident import OnDevice
from effbert.runtime.engines.protocol import UNLIMITED, ShapeLimits
from numpy_device import NumpyDevice

MASK = (np.arange(10) < np.array([[10], [4], [7]])).astype(np.int64)


@pytest.mark.parametrize(
    "lengths, element, kept",
    [
        ([1.0, 0.5], 0, 10),
        ([1.0, 0.5], 1, 5),
        ([0.31, 0.1], 0, 4),  # 3.1 tokens are 4
        ([0.3, 0.1], 0, 3),  # 3.0000001 are 3
        ([0.1, 0.1], 0, 2),  # two stay in any case
        ([6.5, 3.5], 1, 3),
        ([3.5, 0.9], 1, 3),  # what is gone stays gone
        ([20.5, 20.5], 0, 10),
        ([1.5, 1.5], 0, 1),  # a count of one
    ],
)
def test_tokens_that_stay(lengths: list[float], element: int, kept: int) -> None:
    extent = Extent("lengths", element, 1e-4, 2)
    assert kept_tokens(MASK, np.array(lengths, np.float32), extent) == kept


def test_rows_that_the_graph_pads_have_all_their_tokens() -> None:
    extent = Extent("lengths", 0, 1e-4, 2, total=32)
    assert kept_tokens(MASK, np.array([0.5], np.float32), extent) == 16


@pytest.mark.parametrize("tokens, there, rounded", [(3, 30, 16), (16, 30, 16), (17, 30, 30)])
def test_extents_are_rounded_up_to_what_is_there(tokens: int, there: int, rounded: int) -> None:
    assert rounded_up(tokens, there) == rounded


def mask_range(*sizes: int) -> dict[str, Range]:
    rows, length = sizes
    return {"attention_mask": Range((1, 1), (rows, length), (rows, length))}


def signature(*profiles: dict[str, Range]) -> Signature:
    return Signature((), (), {}, {}, {}, profiles)


def test_limits_are_those_of_the_segment_that_holds_least() -> None:
    first = signature(mask_range(8, 128), mask_range(2, 512))
    then = signature(mask_range(4, 256), mask_range(1, 512))
    expected = ShapeLimits(1, 512, ((128, 4), (256, 2), (512, 1)))
    assert shape_limits([first, then]) == expected
    assert expected.rows_of(100) == 4
    assert expected.rows_of(500) == expected.rows_of(1000) == 1
    assert shape_limits([signature({})]) is UNLIMITED


def test_of_profiles_of_one_size_the_one_for_such_calls_is_chosen() -> None:
    def usual(rows: int) -> dict[str, Range]:
        return {"attention_mask": Range((1, 1), (rows, 64), (32, 64))}

    profiles = [usual(32), usual(1)]
    assert choose_profile("s", profiles, {"attention_mask": (2, 64)}) == 1
    assert choose_profile("s", profiles, {"attention_mask": (30, 64)}) == 0


def test_an_extent_that_no_profile_holds_is_refused_too() -> None:
    profile = {**mask_range(4, 64), "keep_0": Range((1,), (16,), (32,))}
    shapes = {"attention_mask": (4, 64), "keep_0": (48,)}
    with pytest.raises(InputError, match="compiled for keep_0 of 1 to 32, this call has 48;"):
        choose_profile("segment-01.onnx", [profile], shapes)


def test_a_larger_buffer_replaces_the_largest_that_is_free() -> None:
    device = NumpyDevice()
    pool = Pool(device)
    small, large = pool.take(100), pool.take(1000)
    pool.keep_only([])
    assert pool.take(900) is large
    grown = pool.take(2000)
    assert grown.size == 2000
    assert small.address not in device.blocks
    assert pool.count == 2
    pool.close()
    assert not device.blocks


def test_arrays_cross_in_one_copy() -> None:
    device = NumpyDevice()
    mirrored, stream = Mirrored(device), device.open_stream()
    arrays = {"mask": MASK, "knob": np.array(0.5, np.float32), "flags": np.array([True, False])}
    places = SentLayout(arrays)
    for _ in range(2):
        found = mirrored.upload(places, arrays, stream)
        device.synchronize(stream)
        for name, array in arrays.items():
            assert found[name].shape == array.shape
            copy = device.read(*found[name], str(array.dtype))
            np.testing.assert_array_equal(copy, array)
    assert len(device.uploads) == 2
    assert len(device.blocks) == len(device.pinned) == 1
    mirrored.close()
    mirrored.close()
    assert not device.blocks
    assert not device.pinned


def test_pieces_of_memory_are_aligned() -> None:
    assert [aligned(size) for size in (0, 1, 256, 257)] == [256, 256, 256, 512]
    assert layout({"a": 1, "b": 300, "c": 0}) == ({"a": 0, "b": 256, "c": 768}, 1024)


def test_choosing_rows_of_a_carry_copies_nothing() -> None:
    buffer = Pool(NumpyDevice()).take(1)
    whole = OnDevice(buffer, (4, 9, 8), np.arange(4), (4, 9, 8), 1)
    some = whole.narrowed(np.array([True, False, True, True]), 6)
    assert some.shape == (3, 6, 8)
    fewer = some.narrowed(np.array([False, True, True]), None)
    assert fewer.shape == (2, 6, 8)
    assert fewer.rows.tolist() == [2, 3]
    assert fewer.buffer is buffer
    assert fewer.stored == (4, 9, 8)
