"""A tokenizer.json that is not known exactly is refused by the part's name, and never crashes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from manifest_mutations import mutated_manifests
from native_driver import Driver, RefusedError
from native_texts import Setting, both, random_texts
from tokenizer_files import odd_strings
from vocabularies import fast_tokenizer


def tokenizer_value(backbone: str) -> Any:
    return json.loads(fast_tokenizer(backbone).to_str())


def configured(driver: Driver, value: Any) -> str | None:
    """Why it is refused."""
    try:
        driver.ask(b"t", (64).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"\0\1\0\0"
                   + json.dumps(value).encode())  # fmt: skip
    except RefusedError as error:
        return str(error)
    return None


REFUSED: dict[str, Callable[[Any], object]] = {
    "normalizer is of the type 'Nmt'": lambda v: v.update(normalizer={"type": "Nmt"}),
    "normalizer has 'more'": lambda v: v["normalizer"].update(more=1),
    "normalizer has no 'lowercase'": lambda v: v["normalizer"].pop("lowercase"),
    "normalizer replaces a pattern": lambda v: v.update(
        normalizer={"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}
    ),
    "pre_tokenizer is of the type 'Digits'": lambda v: v.update(
        pre_tokenizer={"type": "Digits", "individual_digits": True}
    ),
    "pre_tokenizer.pretokenizers[0] is of the type 'Split'": lambda v: v.update(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Split"}]}
    ),
    "model is of the type 'WordLevel'": lambda v: v["model"].update(type="WordLevel"),
    "model has an unk_token": lambda v: v["model"].update(unk_token="none"),
    "model has two tokens with the id 3": lambda v: v["model"]["vocab"].update(none=3),
    "post_processor is of the type 'Mine'": lambda v: v["post_processor"].update(type="Mine"),
    "post_processor has other texts": lambda v: v["post_processor"].update(single=[]),
    "post_processor.special_tokens has no '[CLS]'": lambda v: v["post_processor"][
        "special_tokens"
    ].pop("[CLS]"),
    "added_tokens[0] is found as a single word": lambda v: v["added_tokens"][0].update(
        single_word=True
    ),
    "added_tokens[1] has another id": lambda v: v["added_tokens"][1].update(id=7),
    "added_tokens[2] is empty": lambda v: v["added_tokens"][2].update(content=""),
    "the file has added_tokens that are no list": lambda v: v.update(added_tokens={}),
    "the file has 'more'": lambda v: v.update(more=1),
    "the file has no 'model'": lambda v: v.pop("model"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_part_that_is_not_known_is_refused_by_its_name(driver: Driver, message: str):
    value = tokenizer_value("bert")
    assert configured(driver, value) is None
    REFUSED[message](value)
    refused = configured(driver, value)
    assert refused is not None
    assert message in refused
    assert refused.endswith("pass token ids, or use the Python runtime for texts.")


@pytest.mark.parametrize(
    "option", [{"dropout": 0.1}, {"byte_fallback": True}, {"end_of_word_suffix": "</w>"}], ids=str
)
def test_options_of_bpe_that_are_not_known_are_refused(driver: Driver, option: dict[str, Any]):
    value = tokenizer_value("roberta")
    value["model"].update(option)
    refused = configured(driver, value)
    assert refused is not None
    assert f"model has a {next(iter(option))}".replace("a byte", "byte") in refused


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"null", b'{"model": 1, "model": 1}', b"\xff"]
)
def test_a_file_that_is_no_tokenizer_is_refused(driver: Driver, damage: bytes):
    with pytest.raises(RefusedError, match=r"^tokenizer\.json.*\.$"):
        driver.ask(b"t", bytes(12) + damage)


@pytest.mark.slow
def test_damaged_tokenizers_and_texts_never_crash(sanitized: Driver, tmp_path: Any):
    from native_texts import LAYOUTS, write_layout

    whole = [
        json.loads(write_layout(tmp_path / layout.replace(" ", "-"), layout)) for layout in LAYOUTS
    ]
    draw, read = random.Random(3), 0
    texts = [*odd_strings(60, seed=7), *random_texts(60, seed=8)]
    head = (16).to_bytes(4, "little") + (2).to_bytes(4, "little")
    for data in mutated_manifests(whole, 6000, seed=9):
        flags = bytes([draw.randrange(2), draw.randrange(2), 0, 0])
        try:
            sanitized.ask(b"t", head + flags + data)
        except RefusedError:
            continue
        read += 1
        for text in draw.sample(texts, 4):
            with suppress(RefusedError):
                sanitized.ask(b"e", text.encode())
    print(f"{read} of 6,000 damaged tokenizers were read")
    assert read > 500


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["bert", "roberta"])
def test_bytes_that_are_no_text_never_crash(sanitized: Driver, backbone: str):
    both(sanitized, fast_tokenizer(backbone).to_str().encode(), Setting(16))
    draw, refused = random.Random(5), 0
    for text in random_texts(5000, seed=6):
        data = bytearray(text.encode())
        for _ in range(draw.randint(0, 2)):
            data.insert(draw.randint(0, len(data)), draw.randrange(256))
        try:
            text = data.decode()
            sanitized.ask(b"e", bytes(data))
        except UnicodeDecodeError as error:
            refused += 1
            with pytest.raises(RefusedError, match=f"byte {error.start} is not valid"):
                sanitized.ask(b"e", bytes(data))
    assert 1000 < refused < 4500
