"""The native library gives the bytes of `Session`: rows alone, in batches, in another order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle_edits import edit_manifest
from effbert.runtime import Bundle
from effbert.runtime.bundle.manifest import to_numbers
from effbert.runtime.engines.native.native_session import NativeKnob
from effbert.runtime.errors import InputError
from native_pair import Pair, random_inputs, thresholds
from small_bundles import SMALL
from systems.cases import CASES
from variant_bundle import build_variant_bundle

KINDS = ("entropy", "patience", "shared", "padding", "tokens", "questions")
TEXTS = [
    "a very good film",
    "",
    "The PLOT was dull, slowly!",
    "i hated it " * 40,
    "Caf\u00e9 \u4e2d\u6587 [SEP] \0 \U0001f600",
    "it was not poor",
]
SIZES = ((1, 9), (7, 16), (13, 5))


def compare_all(pair: Pair) -> set[int]:
    """Compare batches at many values of every knob; the exits that rows left at."""
    met: set[int] = set()
    longest = pair.manifest.limits.max_length
    for rows, length in SIZES:
        inputs = random_inputs(pair.manifest, rows, min(length, longest))
        signals = pair.compare_every_exit(inputs, {})
        met |= {*pair.compare(inputs, {}).exit_index.tolist()}
        pair.compare(inputs, {}, deadline_ms=0)
        for knob in pair.manifest.knobs:
            for value in thresholds(knob, signals):
                found = pair.compare(inputs, {knob.name: value})
                met |= {*found.exit_index.tolist()}
                compare_alone(pair, inputs, {knob.name: value})
    return met


def compare_alone(pair: Pair, inputs: dict[str, np.ndarray], knobs: dict[str, Any]) -> None:
    """Compare the rows in another order, and the first two alone."""
    order = np.random.default_rng(1).permutation(len(inputs["input_ids"]))
    for rows in (order, [0], [len(order) // 2]):
        pair.compare({name: np.ascontiguousarray(v[rows]) for name, v in inputs.items()}, knobs)


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_bundles_answer_with_the_bytes_of_python(bundles: dict[str, Path], kind: str) -> None:
    with Pair(bundles[kind]) as pair:
        assert len(compare_all(pair)) > 1


def test_every_variant_answers_with_the_bytes_of_python(tmp_path: Path) -> None:
    with Pair(build_variant_bundle(tmp_path / "bundle", tmp_path / "parts")) as pair:
        compare_all(pair)


@pytest.mark.parametrize("kind", ["entropy", "padding"])
def test_large_batches_are_split_as_in_python(bundles: dict[str, Path], kind: str) -> None:
    with Pair(bundles[kind], max_batch_tokens=40) as pair:
        compare_all(pair)


def test_an_operating_point_is_where_knobs_start(bundle: Path) -> None:
    point = {"name": "fast", "knobs": {"threshold": 0.8}, "data": "tests"}
    edit_manifest(bundle, lambda manifest: manifest["operating_points"].append(point))
    with Pair(bundle, operating_point=b"fast") as pair:
        inputs = random_inputs(pair.manifest, 9, 12)
        expected = pair.python.run(inputs, {"threshold": 0.8})
        found = pair.native.run(inputs, pair.manifest.outputs)
        assert found.exit_index.tolist() == expected.exit_index.tolist()
        assert len({*found.exit_index.tolist()}) > 1
        usual = pair.native.run(inputs, pair.manifest.outputs, {"threshold": NativeKnob([0.0])})
        assert {*usual.exit_index.tolist()} == {2}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_answered_with_the_bytes_of_python(bundles: dict[str, Path], kind: str) -> None:
    with Pair(bundles[kind]) as pair:
        compare_texts(pair)


def compare_texts(pair: Pair) -> None:
    """Compare texts, or pairs where the task wants them, at some values of every knob."""
    pairs = [(text, second) for text, second in zip(TEXTS, TEXTS[::-1], strict=True)]
    given: list[Any] = [TEXTS, pairs, [*TEXTS, *pairs]]
    if pair.manifest.task == "question-answering":
        given = [[pair for pair in pairs if len(pair[0]) < 100]]  # else no room for the context
    elif pair.manifest.task == "token-classification":
        given = [TEXTS]
    for texts in given:
        pair.compare_texts(texts, {})
        for knob in pair.manifest.knobs:
            if knob.unit is None:
                for value in (knob.minimum, knob.maximum):
                    pair.compare_texts(texts, {knob.name: to_numbers(value)})


def test_a_text_that_is_none_is_refused_as_in_python(bundles: dict[str, Path]) -> None:
    with Pair(bundles["tokens"]) as pair, pytest.raises(InputError, match="got a pair"):
        pair.native.run_texts([("one", "two")], ["logits"])
    with Pair(bundles["questions"]) as pair, pytest.raises(InputError, match="expected a pair"):
        pair.native.run_texts(["one"], ["start_logits"])
    with Pair(bundles["entropy"]) as pair, pytest.raises(InputError, match="Text 1"):
        pair.native.run_texts(["one", "\ud800"], ["logits"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL, *CASES])
def test_exported_bundles_answer_with_the_bytes_of_python(
    small_bundle: Callable[[str], Bundle], name: str
) -> None:
    with Pair(small_bundle(name).path) as pair:
        compare_all(pair)
        if pair.manifest.tokenizer is not None:
            compare_texts(pair)
