"""Long texts: the same tokens as of the whole text, at a cost that does not grow with it."""

from __future__ import annotations

import base64
import random
import time
from pathlib import Path
from typing import Any

import pytest

from effbert.exporter.checkpoints.tokenizer import find_tokenizer
from effbert.runtime import Encoder
from effbert.runtime.bundle.manifest import Limits
from effbert.runtime.errors import InputError
from matrices import slow_but
from tokenizer_files import FAMILIES, odd_strings, write_files

LIMITS = Limits(max_length=64, vocab_size=5000, type_vocab_size=2, pad_id=0)
NOISE = base64.b64encode(random.Random(0).randbytes(1800)).decode()
FIVE = slow_but(
    ["bert", "roberta", "albert", "xlm-roberta", "deberta-v2"], "bert", "roberta", "albert"
)
LONG = {
    "blanks first": " " * 4000 + "the quick brown fox jumps over the lazy dog",
    "lines first": "\r\n\t" * 3000 + "the quick brown fox",
    "base64 first": NOISE + " the quick brown fox jumps over the lazy dog",
    "base64 alone": NOISE,
    "one letter": "a" * 3000,
    "many words": "the quick brown fox doesn't jump " * 80,
    "no blanks": "漢字中文" * 600,
    "invisible first": "\u200b\u00ad" * 3000 + "the quick brown fox",
    "marks": "[SEP] </s> " * 200,
    "combining": "e\u0301\u0327" * 800,
    "odd": " ".join(odd_strings(40, seed=3)),
    "short": "a word",
}


@pytest.fixture(scope="module", params=FIVE)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return opened(request.param, tmp_path_factory.mktemp("tokenizer") / "c")


def opened(family: str, folder: Path, **settings: Any) -> tuple[Any, Encoder]:
    folder = write_files(folder, family, "own files", "nowhere", **settings)
    found = find_tokenizer(folder, {}, FAMILIES[family].model_type, LIMITS)
    assert found is not None
    inputs = ("input_ids", "attention_mask")
    return found.own, Encoder(found.data, found.record, LIMITS, "text-classification", inputs)


@pytest.mark.parametrize("kind", LONG)
def test_a_long_text_has_the_tokens_of_all_of_it(tokenizer: Any, kind: str):
    own, encoder = tokenizer
    text = LONG[kind]
    [found] = encoder.encode([text])
    whole = own(text, add_special_tokens=False)["input_ids"]
    assert found.ids == own(text, truncation=True, max_length=64)["input_ids"]
    assert found.truncated == (len(whole) > 62)


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.slow
@pytest.mark.parametrize("other", ["many words", "blanks first", "short"])
def test_pairs_of_long_texts_have_the_tokens_of_all_of_them(tokenizer: Any, kind: str, other: str):
    own, encoder = tokenizer
    for first, second in ((LONG[kind], LONG[other]), (LONG[other], LONG[kind])):
        [found] = encoder.encode([(first, second)])
        assert found.ids == own([first], [second], truncation=True, max_length=64)["input_ids"][0]


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_context_of_a_question_may_be_long(tmp_path: Path, side: str):
    folder = write_files(tmp_path / "c", "bert", "own files", "nowhere", truncation_side=side)
    found = find_tokenizer(folder, {}, "bert", LIMITS)
    assert found is not None
    encoder = Encoder(found.data, found.record, LIMITS, "question-answering", ("input_ids",))
    context = " ".join(LONG.values())
    [row] = encoder.encode([("the quick?", context)])
    expected = found.own("the quick?", context, truncation="only_second", max_length=64)
    assert row.truncated
    assert row.ids == expected["input_ids"]


@pytest.mark.parametrize("family", slow_but(["bert", "roberta", "albert"], "bert"))
@pytest.mark.parametrize("kind", LONG)
def test_the_end_of_a_long_text_is_kept_where_the_start_is_cut(
    family: str, kind: str, tmp_path: Path
):
    own, encoder = opened(family, tmp_path / "c", truncation_side="left")
    text = LONG[kind][::-1] if kind == "blanks first" else LONG[kind]
    [found] = encoder.encode([text])
    assert found.ids == own(text, truncation=True, max_length=64)["input_ids"]


@pytest.mark.parametrize(
    "text", ["word " * 500_000, "漢" * 2_000_000, "word" * 200 + " x" * 900_000]
)
def test_the_cost_of_a_long_text_does_not_grow_with_it(text: str, tmp_path: Path):
    _, encoder = opened("bert", tmp_path / "c")
    encoder.encode(["a word"])
    started = time.perf_counter()
    for given in (text, (text, text)):
        [found] = encoder.encode([given])
        assert found.truncated
    assert time.perf_counter() - started < 2  # the whole takes ten times as long


@pytest.mark.parametrize("text", [" " * 1_500_000 + "a", "x" * 1_500_000, "a " + "y" * 1_500_000])
def test_a_million_characters_without_enough_tokens_are_refused(text: str, tmp_path: Path):
    _, encoder = opened("bert", tmp_path / "c")
    with pytest.raises(InputError, match=r"Text 1: of its 1,500,00\d characters the first 524,288"):
        encoder.encode(["a word", text])
