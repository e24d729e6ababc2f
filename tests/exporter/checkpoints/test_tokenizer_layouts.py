"""The bundle's tokenizer is what transformers builds for the folder, in every layout of files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from effbert.exporter.checkpoints.tokenizer import FoundTokenizer, find_tokenizer
from effbert.runtime import Encoder
from effbert.runtime.bundle.manifest import Limits
from effbert.runtime.errors import CheckpointError
from tokenizer_files import DECLARED, FAMILIES, LAYOUTS, odd_strings, write_files

LIMITS = Limits(max_length=512, vocab_size=5000, type_vocab_size=2, pad_id=0)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
JAPANESE = {
    "tokenizer_class": "BertJapaneseTokenizer",
    "word_tokenizer_type": "basic",
    "subword_tokenizer_type": "character",
}
BERT_JSON, ROBERTA = ("bert", "tokenizer.json"), ("roberta", "own files")
SHORT = ["The quick brown fox, naïve café!", "don't [SEP] 漢字 😀 1234", "", "Привет  мир"]


def find(folder: Path, architecture: str = "bert") -> FoundTokenizer:
    config = json.loads((folder / "config.json").read_text())
    found = find_tokenizer(folder, config, architecture, LIMITS)
    assert found is not None
    return found


def own(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def same(found: FoundTokenizer, reference: Any, texts: list[str], length: int) -> int:
    """Compare singles and pairs; the right values are those of transformers' own call."""
    record = type(found.record)(**{**as_dict(found.record), "max_length": length})
    encoder = Encoder(found.data, record, LIMITS, "text-classification", INPUTS)
    compared = 0
    for batch in (list(texts), list(zip(texts, texts[1:] + texts[:1], strict=True))):
        parts = [batch] if isinstance(batch[0], str) else list(map(list, zip(*batch, strict=True)))
        expected = reference(*parts, truncation=True, max_length=length)
        encoded = encoder.encode(batch)
        types = encoder.padded(encoded)["token_type_ids"]
        for row, item in enumerate(encoded):
            ids = expected["input_ids"][row]
            assert item.ids == ids, batch[row]
            right = (
                expected["token_type_ids"][row] if "token_type_ids" in expected else [0] * len(ids)
            )
            assert types[row, : len(ids)].tolist() == right, batch[row]
            compared += 1
    return compared


def as_dict(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


@pytest.mark.parametrize("declared", DECLARED)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_is_read_as_transformers_reads_it(
    tmp_path: Path, family: str, layout: str, declared: str
):
    folder = write_files(tmp_path / "c", family, layout, declared)
    found = find(folder, FAMILIES[family].model_type)
    assert same(found, own(folder), SHORT, 32) == 8
    known = [
        token
        for token in found.own("The quick fox")["input_ids"]
        if token != found.own.unk_token_id
    ]
    assert len(known) > 2  # a vocabulary of words, not of unknown ones


@pytest.mark.parametrize("family", FAMILIES)
def test_odd_strings_have_the_ids_of_transformers(
    tmp_path: Path, family: str, request: pytest.FixtureRequest
):
    layout = LAYOUTS[sorted(FAMILIES).index(family) % 2]
    folder = write_files(tmp_path / "c", family, layout, "nowhere")
    found, reference = find(folder, FAMILIES[family].model_type), own(folder)
    count = sum(same(found, reference, odd_strings(75), length) for length in (16, 512))
    print(f"{family}: {count} comparisons")
    assert count == 300


@pytest.mark.slow
@pytest.mark.parametrize("family, layout", [*itertools.product(FAMILIES, LAYOUTS)])
def test_thousands_of_odd_strings_have_the_ids_of_transformers(
    tmp_path: Path, family: str, layout: str
):
    folder = write_files(tmp_path / "c", family, layout, "nowhere")
    found, reference = find(folder, FAMILIES[family].model_type), own(folder)
    texts = odd_strings(2000, seed=1)
    count = sum(same(found, reference, texts, length) for length in (16, 512))
    print(f"{family}, {layout}: {count} comparisons, none differs")
    assert count == 8000


@pytest.mark.parametrize(
    "files, model_type, where",
    [
        ("xlm-roberta", "bert", "tokenizer_config.json"),
        ("bert", "roberta", "tokenizer_config.json"),
        ("bert", "roberta", "config.json"),
        ("roberta", "bert", "tokenizer_config.json"),
        ("deberta-v2", "bert", "config.json"),
        ("albert", "distilbert", "tokenizer_config.json"),
    ],
)
def test_the_declared_class_comes_before_the_model_type(
    tmp_path: Path, files: str, model_type: str, where: str
):
    folder = write_files(tmp_path / "c", files, "own files", where)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    found = find(folder, model_type)
    assert type(found.own).__name__ == FAMILIES[files].declared
    assert same(found, own(folder), SHORT, 32) == 8


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "deberta-v2"])
def test_a_folder_that_says_nothing_is_read_as_its_model(tmp_path: Path, family: str):
    """As of --tokenizer DIR, and of configs from before model_type."""
    folder = write_files(tmp_path / "c", family, "own files", "nowhere")
    reference = own(folder)
    (folder / "config.json").unlink()
    found = find_tokenizer(folder, {}, FAMILIES[family].model_type, LIMITS)
    assert found is not None
    assert same(found, reference, SHORT, 32) == 8


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"truncation_side": "left"},
        {"model_max_length": 7},
        {"additional_special_tokens": ["[E1]", "[/E1]"]},
        {"cls_token": "the"},
        {"split_special_tokens": True},
        {"model_input_names": ["input_ids", "attention_mask"]},
        {"tokenize_chinese_chars": False},
    ],
    ids=str,
)
def test_settings_travel(tmp_path: Path, settings: dict[str, Any]):
    folder = write_files(tmp_path / "c", "bert", "own files", "tokenizer_config.json", **settings)
    found, reference = find(folder), own(folder)
    texts = [*SHORT, "[E1] cat [/E1] ÉCOLE", "one two three four five six seven eight nine ten"]
    longest = found.record.max_length
    assert longest == settings.get("model_max_length", 512)
    assert same(found, reference, texts, min(longest, 9)) == 2 * len(texts)


def test_padding_on_the_left_is_reported(tmp_path: Path):
    folder = write_files(tmp_path / "c", "bert", "own files", "nowhere", padding_side="left")
    assert "pads on the left" in find(folder).notes[0]


@pytest.mark.parametrize(
    "files, model_type, settings, message",
    [
        ("bert", "roberta", {}, r"RobertaTokenizer, whose vocab.json and merges.txt is missing"),
        ("bert", "albert", {}, r"AlbertTokenizer, whose spiece.model is missing"),
        ("albert", "bert", {}, r"BertTokenizer, whose vocab.txt is missing \(found: spiece.model"),
        ("bert", "bert", JAPANESE, "is for BertJapaneseTokenizer, which has no equal form"),
        ("bert", "bert", {"tokenizer_class": "CanineTokenizer"}, "CanineTokenizer"),
        ("bert", "bert", {"tokenizer_class": "MyTokenizer"}, r"\(MyTokenizer\) that transformers"),
        ("bert", "bert", {"auto_map": {"AutoTokenizer": ["a.B", None]}}, "asks for code from"),
    ],
)  # fmt: skip
def test_what_has_no_equal_form_is_refused_by_name(
    tmp_path: Path, files: str, model_type: str, settings: dict[str, Any], message: str
):
    folder = write_files(tmp_path / "c", files, "own files", "nowhere", **settings)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(CheckpointError, match=message) as refused:
        find(folder, model_type)
    assert "--tokenizer DIR" in str(refused.value)
    assert "--no-tokenizer" in str(refused.value)


def test_a_declared_class_without_any_vocabulary_is_refused(tmp_path: Path):
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(CheckpointError, match=r"whose vocab.txt is missing"):
        find_tokenizer(tmp_path, {"model_type": "bert"}, "bert", LIMITS)


def test_a_folder_without_tokenizer_files_has_none(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    assert find_tokenizer(tmp_path, {}, "bert", LIMITS) is None


def test_tokenizer_json_of_another_kind_than_the_model_is_used_as_it_is(tmp_path: Path):
    folder = write_files(tmp_path / "c", "roberta", "tokenizer.json", "nowhere")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    found = find(folder)
    assert "it is used as it is" in found.notes[0]
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
    assert same(found, reference, SHORT, 32) == 8


@pytest.mark.parametrize(
    "family, layout, edit, said",
    [
        (*BERT_JSON, {"tokenizer_config.json": {"do_lower_case": False}}, "alone reads 'a Word'"),
        (*BERT_JSON, {"vocab.txt": "[PAD]\nother\n"}, "vocab.txt holds another vocabulary"),
        (*ROBERTA[:1], "tokenizer.json", {"vocab.json": {"<s>": 5}}, "holds another vocabulary"),
        (
            "bert",
            "own files",
            {
                "tokenizer_config.json": {"tokenizer_class": "BertTokenizer"},
                "config.json": {"model_type": "bert", "tokenizer_class": "RobertaTokenizer"},
            },
            "declares RobertaTokenizer",
        ),
        (
            *ROBERTA,
            {"tokenizer_config.json": {"do_lower_case": True}},
            "says do_lower_case True, but RobertaTokenizer keeps the case",
        ),
    ],
)
def test_contradictions_are_reported_and_transformers_decides(
    tmp_path: Path, family: str, layout: str, edit: dict[str, Any], said: str
):
    folder = write_files(tmp_path / "c", family, layout, "nowhere")
    for name, content in edit.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    found = find(folder, family)
    assert any(said in note and note.endswith("follows transformers.") for note in found.notes)
    assert same(found, own(folder), SHORT, 32) == 8


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_files_that_agree_are_not_remarked_on(tmp_path: Path, family: str, layout: str):
    folder = write_files(tmp_path / "c", family, layout, "tokenizer_config.json")
    own(folder).save_pretrained(folder)  # everything that transformers writes, beside the rest
    notes = find(folder, FAMILIES[family].model_type).notes
    assert all("pads with id" in note for note in notes)
