"""Token ids, masks and texts that nobody should send: answered right or refused by name."""

import os
import pickle
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from bundle_edits import at, edit_manifest, edit_segment
from effbert.runtime import Session, TextEncoder
from effbert.runtime.chain.inputs import InputCheck
from effbert.runtime.errors import InputError, NumericalError
from tiny_bundle import EXITS, MAX_LENGTH, SPECIAL, VOCABULARY, tiny_tokenizer

IDS = [[2, 5, 6, 7, 3], [2, 8, 9, 10, 3]]


@pytest.fixture(scope="module")
def session(pristine: Path) -> Iterator[Session]:
    with Session(pristine, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def expected(session: Session) -> np.ndarray:
    return session.run({"input_ids": np.array(IDS)}).logits


@pytest.fixture(autouse=True)
def no_side_effects(pristine: Path, session: Session) -> Iterator[None]:
    """Whatever is sent: no file, descriptor, thread is left, the bundle is as it was."""

    def seen() -> tuple[Any, ...]:
        files = sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in pristine.iterdir())
        descriptors = len(os.listdir("/proc/self/fd"))
        return files, sorted(os.listdir(".")), descriptors, threading.active_count()

    before = seen()
    yield
    assert seen() == before


# I1: dtype, byte order, strides, rank, names


def test_arrays_from_another_process_are_taken_as_they_are(session: Session) -> None:
    """Their dtype is equal to that of other arrays, but not the same object."""
    ids = np.array(IDS)
    names = [item.name for item in session.bundle.manifest.inputs]
    inputs = {name: ids if name == "input_ids" else np.ones_like(ids) for name in names}
    inputs = pickle.loads(pickle.dumps(inputs))
    assert inputs["input_ids"].dtype is not ids.dtype
    assert InputCheck(session.bundle.manifest)(inputs).tensors is inputs


def test_a_mask_of_zeros_is_refused_whatever_an_absent_one_means(session: Session) -> None:
    manifest = session.bundle.manifest
    inputs = [msgspec.structs.replace(item, missing=0) for item in manifest.inputs]
    check = InputCheck(msgspec.structs.replace(manifest, inputs=inputs))
    arrays = {item.name: np.zeros((1, 4), np.int64) for item in manifest.inputs}
    with pytest.raises(InputError, match="nothing to read"):
        check(arrays)


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from("bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 "
                          "float16 float32 float64 complex64 str object".split()),
    order=st.sampled_from("=<>"),
    layout=st.sampled_from(["c", "fortran", "reversed", "strided", "readonly"]),
    rank=st.integers(0, 4),
)  # fmt: skip
def test_ids_of_any_make_are_answered_right_or_refused(
    session: Session, expected: np.ndarray, dtype: str, order: str, layout: str, rank: int
) -> None:
    array = np.array(IDS).astype(np.dtype(dtype).newbyteorder(order))
    if layout == "fortran":
        array = np.asfortranarray(array)
    elif layout == "reversed":
        array = np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    elif layout == "strided":
        array = np.repeat(np.repeat(array, 3, axis=0), 2, axis=1)[::3, ::2]
    elif layout == "readonly":
        array.setflags(write=False)
    array = [array[0, 0], array[0], array, array[None], array[None, None]][rank]
    before = np.array(array, copy=True)
    if np.dtype(dtype).kind in "iu" and rank == 2:
        np.testing.assert_array_equal(session.run({"input_ids": array}).logits, expected)
    else:
        with pytest.raises(InputError, match=r"'input_ids': got .*expected integers"):
            session.run({"input_ids": array})
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("types", [[[0, 0, 0, 1, 1]] * 2, np.zeros((2, 5), np.int32)])
def test_token_types_of_a_model_that_reads_none_change_nothing(
    session: Session, types: Any
) -> None:
    manifest = session.bundle.manifest
    inputs = [item for item in manifest.inputs if item.name != "token_type_ids"]
    check = InputCheck(msgspec.structs.replace(manifest, inputs=inputs))
    assert [*check({"input_ids": IDS, "token_type_ids": types}).tensors] == [
        "input_ids",
        "attention_mask",
    ]
    with pytest.raises(InputError, match="'token_type_ids': got shape"):
        check({"input_ids": IDS, "token_type_ids": [[0, 0]] * 2})


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_integers_of_numpy_are_integers(pristine: Path, expected: np.ndarray, kind: Any) -> None:
    with Session(pristine, threads=kind(1), max_batch_tokens=kind(64)) as session:
        assert session.run({"input_ids": IDS}, deadline_ms=kind(0)).deadline_hit.all()
        found = session.run({"input_ids": IDS}, deadline_ms=np.float32(1e6))
        np.testing.assert_array_equal(found.logits, expected)


def test_the_message_names_the_input_what_came_and_what_fits(session: Session) -> None:
    with pytest.raises(InputError) as caught:
        session.run({"input_ids": np.zeros((2, 5), np.float32)})
    assert str(caught.value) == (
        "Input 'input_ids': got float32 [2, 5], expected integers [batch, 2..32]."
    )


def test_nested_lists_are_accepted(session: Session, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(session.run({"input_ids": IDS}).logits, expected)


@pytest.mark.parametrize(
    "inputs, message",
    [
        (
            {"input_ids": [[2, 5, 3], [2, 3]]},
            "'input_ids': its rows are ragged, of different lengths; pad",
        ),
        ({"input_ids": IDS, "atention_mask": IDS}, "'atention_mask'; known are: input_ids, att"),
        ({"input_ids": IDS, "hidden": IDS}, "'hidden'; known are"),
        ({"input_ids": IDS, 3: IDS}, "Unknown input 3"),
        ({"attention_mask": IDS}, "'input_ids' is missing"),
        ({}, "'input_ids' is missing"),
        (IDS, "got list, expected a dict"),
        (None, "got NoneType, expected a dict"),
        ("a text", "got str, expected a dict"),
        ({"input_ids": None}, "'input_ids': got object"),
        ({"input_ids": IDS, "attention_mask": [[1, 1, 1]]}, "'attention_mask': got shape"),
        ({"input_ids": IDS, "token_type_ids": np.zeros((2, 6), int)}, "'token_type_ids': got shap"),
        ({"input_ids": IDS, "token_type_ids": np.zeros((2, 5))}, "'token_type_ids': got float64"),
        ({"input_ids": IDS, "token_type_ids": np.full((2, 5), 2)}, "token types from 0 to 1"),
        ({"input_ids": IDS, "token_type_ids": np.full((2, 5), -1)}, "token types from 0 to 1"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(
    session: Session, inputs: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        session.run(inputs)
    with pytest.raises(InputError, match=message):
        session.run_exits(inputs)


@pytest.mark.parametrize("bad", [-1, len(VOCABULARY), 2**31, 2**40, -(2**63)])
def test_ids_outside_the_vocabulary_are_refused_with_their_place(
    session: Session, bad: int
) -> None:
    ids = np.array(IDS)
    ids[1, 3] = bad
    with pytest.raises(InputError, match=rf"got {bad} at \[1, 3\], expected token ids from 0 to"):
        session.run({"input_ids": ids})


def test_unsigned_ids_do_not_wrap(session: Session) -> None:
    ids = np.array(IDS, dtype=np.uint64)
    ids[0, 0] = 2**64 - 1
    with pytest.raises(InputError, match="18446744073709551615"):
        session.run({"input_ids": ids})


# I2, I3: empty and too long


@pytest.mark.parametrize("length", [0, 1, MAX_LENGTH + 1, 5000])
def test_rows_of_a_length_the_model_does_not_read_are_refused(
    session: Session, length: int
) -> None:
    with pytest.raises(InputError, match=rf"got {length} tokens a row, expected .*2\.\.32"):
        session.run({"input_ids": np.full((2, length), 5)})


@pytest.mark.parametrize("length", [2, MAX_LENGTH - 1, MAX_LENGTH])
def test_rows_up_to_the_longest_the_model_reads_are_answered(session: Session, length: int) -> None:
    assert session.run({"input_ids": np.full((2, length), 5)}).logits.shape == (2, 3)


@pytest.mark.parametrize("words", [28, 29, 30, 31, 32, 5000])
def test_texts_around_the_longest_are_answered_and_cuts_reported(
    session: Session, words: int
) -> None:
    [answer] = session(["good " * words])
    assert answer.truncated == (words > MAX_LENGTH - 2)


@pytest.mark.parametrize(
    "empty", [[], np.zeros((0, 5), np.int32), np.zeros((0, 0)), np.zeros(0, np.int64)]
)
def test_an_empty_batch_of_any_shape_has_an_empty_answer(session: Session, empty: Any) -> None:
    result = session.run({"input_ids": empty})
    assert result.logits.shape == (0, 3)
    assert result.exit_index.shape == (0,)


def test_empty_things_have_empty_or_normal_answers(session: Session) -> None:
    assert session([]) == []
    assert len(session(["", " ", "\n"])) == 3
    assert session.run({"input_ids": np.zeros((0, 7), np.int8)}).logits.shape == (0, 3)


# I4: the cost of a text


def test_fifty_megabytes_of_text_are_answered_at_once(session: Session) -> None:
    text, best = "good film " * 5_000_000, float("inf")
    for _ in range(5):
        start = time.perf_counter()
        [answer] = session([text])
        best = min(best, time.perf_counter() - start)
    assert answer.truncated
    assert best < 0.2


@pytest.mark.parametrize(
    "text",
    ["x" * 50_000_000, "a\u0301" * 10_000_000, " " * 50_000_000],
    ids=["one word", "combining marks", "spaces"],
)
def test_fifty_megabytes_of_almost_nothing_are_refused_soon(session: Session, text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"Text 0: of its .* characters the first 524,288 hold"):
        session([text])
    assert time.perf_counter() - start < 3


# I5: Unicode


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_every_valid_text_has_the_ids_of_the_tokenizer_alone(session: Session, text: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(MAX_LENGTH)
    [encoded] = session._encoder.encode([text])
    assert encoded.ids == tokenizer.encode(text).ids
    assert np.isfinite(list(session([text])[0].scores.values())).all()


ODD = [
    "\0", "a\0b", "\u200b", "\u202egood", "\u200d", "\ufeff", "\ufffd", "\uffff", "\U0010ffff",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "cafe\u0301", "caf\u00e9", "\u0130", "\u1e9e",
    "\t\r\n", "\x85\u2028\u2029", "good\u00a0film", "\u4e2d\u6587", "x" * 200, "\x1b[31mgood",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=[unicodedata.name(t[0], f"{ord(t[0]):x}") for t in ODD])
def test_odd_text_is_answered(session: Session, text: str) -> None:
    assert len(session([text, (text, "good"), ("good", text)])) == 3


@pytest.mark.parametrize("bad", ["\ud800", "good \udfff film", None, b"good", 3, float("nan"), []])
@pytest.mark.parametrize("index", [0, 2])
def test_what_is_no_text_is_refused_with_its_place(session: Session, bad: Any, index: int) -> None:
    texts: list[Any] = ["good", "film", "fun"]
    texts[index] = bad
    with pytest.raises(InputError, match=f"Text {index}: "):
        session(texts)


# I6: special tokens in a text


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(st.sampled_from([*SPECIAL, "good", " ", "[", "]", "SEP", "[sep]"])))
def test_special_tokens_in_a_text_are_those_of_the_tokenizer_or_none(
    session: Session, parts: list[str]
) -> None:
    text = "".join(parts)
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(MAX_LENGTH)
    [encoded] = session._encoder.encode([text])
    assert encoded.ids == tokenizer.encode(text).ids
    strangers = TextEncoder(session.bundle, special_tokens_in_text=False)
    first, *inner, last = strangers.encode([text])[0].ids
    assert (first, last) == (2, 3)
    assert not set(inner) & {0, 2, 3, 4}


# I7: logits that are no numbers


def poisoned(
    bundle: Path, tensor_name: str, place: tuple[int, ...], value: float, segment: int = 0
) -> Session:
    """A session one of whose segments holds `value` in one of its weights."""

    def poison(model: ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == tensor_name:
                weights = numpy_helper.to_array(tensor).copy()
                weights[place] = value
                tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))

    edit_segment(bundle, poison, f"segment-{segment:02}.onnx")
    return Session(bundle)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 2.0])
def test_logits_that_are_nan_name_the_rows_and_the_exit(bundle: Path, threshold: float) -> None:
    healthy, bad = [2, 5, 6, 7, 3], [2, 5, 40, 7, 3]
    message = r"Rows \[1, 3\] have logits .*exit 0 \(layer 1\)"
    with poisoned(bundle, "word_embeddings", (40, 0), np.nan) as session:
        assert np.isfinite(session.run({"input_ids": [healthy]}).logits).all()
        rows = {"input_ids": [healthy, bad, healthy, bad]}
        with pytest.raises(NumericalError, match=message):
            session.run(rows, knobs={"threshold": threshold})
        with pytest.raises(NumericalError, match=message):
            session.run_exits(rows)


def test_logits_of_texts_that_are_nan_name_the_texts(bundle: Path) -> None:
    with poisoned(bundle, "word_embeddings", (VOCABULARY.index("bad"), 0), np.nan) as session:
        texts = ["a very good film", "bad", "good", "it was a bad story"]
        with pytest.raises(NumericalError, match=r"Rows \[1, 3\] have logits"):
            session(texts)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_logits_that_are_infinite_are_an_error_too(bundle: Path, value: float) -> None:
    session = poisoned(bundle, "bias", (1,), value, EXITS - 1)
    message = rf"Rows \[0, 1\] have logits .*exit {EXITS - 1}"
    with session, pytest.raises(NumericalError, match=message):
        session.run({"input_ids": IDS})


# I8: masks


@pytest.mark.parametrize(
    "mask, message",
    [
        ([[0] * 5, [1] * 5], "row 0 has no 1"),
        ([[1] * 5, [0] * 5], "row 1 has no 1"),
        ([[1, 1, 2, 1, 1], [1] * 5], r"got 2 at \[0, 2\], expected 0 or 1"),
        ([[1] * 5, [1, -1, 1, 1, 1]], r"got -1 at \[1, 1\]"),
        ([[1.0] * 5, [1.0] * 5], "'attention_mask': got float64"),
        ([[1] * 6, [1] * 6], r"got shape \[2, 6\]"),
        ([[1] * 5], r"got shape \[1, 5\]"),
        ([1] * 5, r"got int64 \[5\]"),
    ],
)
def test_masks_that_make_no_sense_are_refused(session: Session, mask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        session.run({"input_ids": IDS, "attention_mask": mask})


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", ">i8"])
def test_masks_of_any_integer_type_and_bool_are_accepted(session: Session, dtype: str) -> None:
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    expected = session.run({"input_ids": IDS, "attention_mask": mask}).logits
    found = session.run({"input_ids": IDS, "attention_mask": mask.astype(dtype)}).logits
    np.testing.assert_array_equal(found, expected)


def test_rows_at_their_own_length_need_the_padding_at_the_end(bundle: Path) -> None:
    edit_manifest(bundle, at("padding_free", False))
    with Session(bundle) as session:
        for mask, message in [
            ([0, 0, 1, 1, 1], "ones followed by zeros"),
            ([1] + [0] * 4, "row 0"),
        ]:
            with pytest.raises(InputError, match=message):
                session.run({"input_ids": IDS[:1], "attention_mask": [mask]})
