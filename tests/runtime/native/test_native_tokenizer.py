"""Texts have the tokens of the tokenizers library, as Python's runtime has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from matrices import slow_but
from native_driver import Driver, RefusedError
from native_texts import (
    CLASSES,
    LAYOUTS,
    Setting,
    both,
    cluster_texts,
    compare,
    native_row,
    random_texts,
    trained,
    write_layout,
)
from tokenizer_files import MARKS, odd_strings
from vocabularies import fast_tokenizer

SETTINGS = [
    Setting(longest, left, special)
    for longest in (16, 512)
    for left in (False, True)
    for special in (True, False)
]


def paired(texts: list[str]) -> list[tuple[str, str]]:
    return list(zip(texts, texts[1:] + texts[:1], strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_texts_have_the_tokens_of_python(driver: Driver, tmp_path: Path, layout: str):
    data = write_layout(tmp_path / "c", layout)
    texts = [*odd_strings(40), *random_texts(40, seed=0), *MARKS, "", " ", "[SEP] <s> <mask> x"]
    for setting in (SETTINGS[0], SETTINGS[3], SETTINGS[4]):
        encoder = both(driver, data, setting)
        assert compare(driver, encoder, texts) == len(texts)
        assert compare(driver, encoder, paired(texts)) == len(texts)


@pytest.mark.parametrize("count", slow_but([300, 20_000], 300))
@pytest.mark.parametrize("layout", slow_but(LAYOUTS, "xlm-roberta", "deberta-v3", "bert uncased"))
def test_clusters_of_characters_end_where_the_library_ends_them(
    driver: Driver, tmp_path: Path, layout: str, count: int
):
    encoder = both(driver, write_layout(tmp_path / "c", layout), Setting())
    assert compare(driver, encoder, cluster_texts(count, seed=count)) == count


@pytest.mark.parametrize("layout", slow_but(CLASSES, "FNetTokenizer"))
def test_tokenizers_of_other_families_are_read(driver: Driver, tmp_path: Path, layout: str):
    data = write_layout(tmp_path / "c", layout)
    texts = [*odd_strings(40), *random_texts(40, seed=0), *MARKS, "  a  ", "▁a"]
    for setting in (SETTINGS[0], SETTINGS[-1]):
        encoder = both(driver, data, setting)
        assert compare(driver, encoder, [*texts, *paired(texts)]) == 2 * len(texts)


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 5000])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_thousands_of_texts_have_the_tokens_of_python(
    driver: Driver, tmp_path: Path, layout: str, size: int | None
):
    data = write_layout(tmp_path / "c", layout)
    if size:
        data = trained(data, size)
    odd, any_ = odd_strings(2000, seed=1), list(random_texts(20_000, seed=2))
    count = 0
    for setting in SETTINGS:
        encoder = both(driver, data, setting)
        texts = odd + any_ if setting in (SETTINGS[0], SETTINGS[4]) else odd
        count += compare(driver, encoder, texts)
        count += compare(driver, encoder, paired(texts))
    print(f"{layout}, {size or 'tiny'} vocabulary: {count} rows, none differs")
    assert count == 2 * (8 * 2000 + 2 * 20_000)


LONG = {
    "blanks first": " " * 9000 + "the quick brown fox jumps over the lazy dog",
    "one letter": "a" * 3000,
    "many words": "the quick brown fox doesn't jump " * 300,
    "no blanks": "漢字中文" * 1500,
    "invisible first": "\u200b\u00ad" * 3000 + "the quick brown fox",
    "marks": "[SEP] </s> " * 500,
    "combining": "e\u0301\u0327" * 1500,
    "odd": " ".join(odd_strings(150, seed=3)),
    "short": "a word",
}


@pytest.mark.parametrize("left", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("layout", slow_but(LAYOUTS, "bert uncased"))
def test_long_texts_are_cut_where_python_cuts_them(
    driver: Driver, tmp_path: Path, layout: str, left: bool
):
    encoder = both(driver, write_layout(tmp_path / "c", layout), Setting(64, left))
    texts = list(LONG.values())
    compare(driver, encoder, texts)
    compare(driver, encoder, paired(texts))


def test_a_text_that_holds_too_few_tokens_is_refused(driver: Driver):
    encoder = both(driver, tokenizer_json("bert"), Setting(64))
    blank = " " * (1 << 19)
    compare(driver, encoder, [blank, blank + " ", "a " + blank, blank + "a"])
    refused = native_row(driver, blank + "a")
    assert isinstance(refused, str)
    assert refused.startswith("Text 0: of its 524289 characters the first 524288 hold fewer")


def tokenizer_json(backbone: str) -> bytes:
    return fast_tokenizer(backbone).to_str().encode()


@pytest.mark.parametrize(
    "setting, text, message",
    [
        (Setting(texts="pairs"), "a question", r"expected a pair"),
        (Setting(texts="texts"), ("a", "b"), r"got a pair"),
        (Setting(shortest=5), "a b", r"it has 4 tokens, this model needs 5 or more"),
        (Setting(4, texts="pairs"), ("a b", "c"), r"the question leaves no room"),
        (Setting(2), ("a", "b"), r"fewer than the special ones"),
    ],
)
def test_what_no_row_can_be_made_of_is_refused(
    driver: Driver, setting: Setting, text: Any, message: str
):
    both(driver, tokenizer_json("bert"), setting)
    refused = native_row(driver, text)
    assert isinstance(refused, str)
    assert refused.startswith("Text 0: ")
    assert message in refused


def test_of_a_question_and_its_context_the_context_is_cut(driver: Driver):
    for left in (False, True):
        encoder = both(driver, tokenizer_json("bert"), Setting(16, left, texts="pairs"))
        texts = paired([f"{'a ' * n}?" for n in range(16)])
        compare(driver, encoder, [*texts, ("a ?", LONG["many words"]), (LONG["odd"], LONG["odd"])])


def test_bytes_that_are_no_text_are_refused(driver: Driver):
    both(driver, tokenizer_json("bert"), Setting())
    with pytest.raises(RefusedError, match="Text 0: byte 1 is not valid UTF-8"):
        driver.ask(b"e", b"a\xff")


def test_tokens_are_spelled(driver: Driver):
    both(driver, tokenizer_json("bert"), Setting())
    assert driver.ask(b"s", (3).to_bytes(4, "little")) == b"[SEP]"
    with pytest.raises(RefusedError):
        driver.ask(b"s", (1 << 30).to_bytes(4, "little"))


def test_a_tokenizer_with_its_own_settings_is_read(driver: Driver):
    changes: list[dict[str, Any]] = [
        {"normalizer": None},
        {"pre_tokenizer": None},
        {"post_processor": None},
        {"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}},
        {"normalizer": {"type": "NFKC"}},
        {"normalizer": {"type": "NFD"}},
        {"normalizer": {"type": "Prepend", "prepend": "the "}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "__"}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": ""}},
        {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": False}},
        {"normalizer": {"type": "BertNormalizer", "clean_text": False, "strip_accents": False,
                        "handle_chinese_chars": False, "lowercase": True}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                           "split": False}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "never"}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}},
    ]  # fmt: skip
    texts = [*odd_strings(30), *random_texts(30, seed=4), *MARKS]
    for change in changes:
        data = json.dumps(json.loads(tokenizer_json("bert")) | change).encode()
        encoder = both(driver, data, Setting(32))
        compare(driver, encoder, texts)
        compare(driver, encoder, paired(texts)[:20])


@pytest.mark.parametrize("flags", [{"lstrip": True}, {"rstrip": True}, {"normalized": True}])
def test_added_tokens_are_found_in_texts(driver: Driver, flags: dict[str, bool]):
    value = json.loads(tokenizer_json("bert"))
    common = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    first = len(value["model"]["vocab"])
    value["added_tokens"] += [
        {"id": first + k, "content": content, **common, **flags, "special": special}
        for k, (content, special) in enumerate(
            (("[E1]", True), ("[E10]", True), ("ÉCOLE", False), ("don't", False), ("  ", False))
        )
    ]
    texts = ["[E1]  a [E10] école ÉCOLE don't", "[E1[E1]0]  [E10]", "DON'T [e1]  ", "   a    b"]
    for special in (True, False):
        encoder = both(driver, json.dumps(value).encode(), Setting(special=special))
        compare(driver, encoder, [*texts, *odd_strings(30)])


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("trim", [False, True])
def test_byte_level_settings_are_read(driver: Driver, prefix: bool, trim: bool):
    value = json.loads(tokenizer_json("roberta"))
    value["pre_tokenizer"]["add_prefix_space"] = prefix
    value["post_processor"] |= {"add_prefix_space": prefix, "trim_offsets": trim}
    value["model"]["ignore_merges"] = prefix
    encoder = both(driver, json.dumps(value).encode(), Setting())
    compare(driver, encoder, [*odd_strings(40), "  a", " a", "a  ", "don't 've"])
