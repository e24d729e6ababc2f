"""Checkpoints whose only tokenizer is a SentencePiece model, as ALBERT's and XLM-R's once were."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer

from effbert.exporter.checkpoints.tokenizer import find_tokenizer
from effbert.runtime.bundle.manifest import Limits

TEXTS = ["a good film", "the story was very bad", "what a great story, who was bad?"]
LIMITS = Limits(max_length=64, vocab_size=100, type_vocab_size=2, pad_id=0)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 50),
        model_prefix=str(folder / "spiece"),
        vocab_size=48,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder


@pytest.mark.parametrize("text", TEXTS)
def test_the_converted_tokenizer_gives_the_ids_of_sentencepiece(
    vocabulary: Path, text: str
) -> None:
    found = find_tokenizer(vocabulary, {"model_type": "albert"}, "albert", LIMITS)
    assert found is not None
    original = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary / "spiece.model"))
    start, *ids, end = Tokenizer.from_str(found.data.decode()).encode(text).ids
    assert ids == original.encode(text)
    assert [start, end] == [original.piece_to_id("[CLS]"), original.piece_to_id("[SEP]")]
