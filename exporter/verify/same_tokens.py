"""Compare the bundle's tokenizer with the checkpoint's own: ids and types, text by text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from effbert.exporter.checkpoints.tokenizer import FoundTokenizer
from effbert.exporter.plan import Plan
from effbert.exporter.quiet import quietly
from effbert.exporter.rows.rows import odd_texts, text_parts
from effbert.runtime import Encoder, Text
from effbert.runtime.errors import ParityError

MOST_ADDED = 64
SHORT = 16  # tokens: here most texts are cut
Tokens = tuple[list[int], list[int]]


def compare_tokenizers(plan: Plan, texts: Sequence[Text]) -> int:
    """Tokenize texts, odd ones and pairs of them with both, whole and cut.

    Args:
        plan: The tokenizer, and the model that reads it.
        texts: Of the verification.

    Returns:
        How many comparisons were made; 0 without a tokenizer.

    Raises:
        ParityError: Ids or types differ; shows the text and both.
    """
    if plan.tokenizer is None:
        return 0
    added = [str(token) for token in plan.tokenizer.own.added_tokens_decoder.values()]
    singles = [part for text in texts for part in text_parts(text)] + odd_texts()
    singles += [f"one {token} two{token}" for token in added[:MOST_ADDED]]
    pairs = [text for text in texts if not isinstance(text, str)]
    pairs += zip(singles, [*singles[1:], *singles[:1]], strict=True)
    task = plan.description.task
    given: list[Text] = []
    given += [] if task == "question-answering" else singles
    given += [] if task == "token-classification" else pairs
    longest = plan.tokenizer.record.max_length
    return sum(
        _compare(plan, plan.tokenizer, given, length) for length in {longest, min(SHORT, longest)}
    )


def _compare(plan: Plan, found: FoundTokenizer, texts: Sequence[Text], length: int) -> int:
    described = plan.description
    record = msgspec.structs.replace(found.record, max_length=length)
    encoder = Encoder(found.data, record, described.limits, described.task, described.inputs)
    typed = "token_type_ids" in described.inputs

    def of_checkpoint(texts: Sequence[Text]) -> list[Tokens]:
        return _own_tokens(found.own, texts, length, described.task, typed)

    def of_bundle(texts: Sequence[Text]) -> list[Tokens]:
        return _bundle_tokens(encoder, texts, typed)

    with quietly():
        expected, tokens = _each(of_checkpoint, texts), _each(of_bundle, texts)
    shortest = described.limits.min_length
    # Of a text that makes no row for the model, the bundle need not say the same.
    fits = [not isinstance(each, str) and shortest <= len(each[0]) <= length for each in expected]
    for text, right, read, fit in zip(texts, expected, tokens, fits, strict=True):
        if fit and read != right:
            raise ParityError(
                f"The bundle's tokenizer reads {text!r:.200} as {_spell(read)}, the checkpoint's "
                f"{type(found.own).__name__} as {_spell(right)}; nothing was written. Please "
                "report the model; --no-tokenizer exports it for token ids only."
            )
    return sum(fits)


def _each(
    tokenize: Callable[[Sequence[Text]], list[Tokens]], texts: Sequence[Text]
) -> list[Tokens | str]:
    """Tokenize all texts at once; where that fails, each alone, with errors as texts."""
    try:
        return [*tokenize(texts)]
    except Exception as error:  # the tokenizers library raises bare Exception
        if len(texts) == 1:
            return [str(error)]
        return [tokens for text in texts for tokens in _each(tokenize, [text])]


def _own_tokens(
    own: Any, texts: Sequence[Text], length: int, task: str, typed: bool
) -> list[Tokens]:
    """Ask transformers; singles and pairs apart, as one batch has one kind."""
    cut = "only_second" if task == "question-answering" else "longest_first"
    found: dict[int, Tokens] = {}
    for parts in (1, 2):
        indices = [i for i, text in enumerate(texts) if len(text_parts(text)) == parts]
        if not indices:
            continue
        batch = zip(*(text_parts(texts[i]) for i in indices), strict=True)
        read = own(*map(list, batch), truncation=cut, max_length=length)
        for row, i in enumerate(indices):
            ids = read["input_ids"][row]
            types = read["token_type_ids"][row] if typed and "token_type_ids" in read else None
            found[i] = ids, types or [0] * len(ids)
    return [found[i] for i in range(len(texts))]


def _bundle_tokens(encoder: Encoder, texts: Sequence[Text], typed: bool) -> list[Tokens]:
    encoded = encoder.encode(texts)
    if not typed:
        return [(item.ids, [0] * len(item.ids)) for item in encoded]
    types = encoder.padded(encoded)["token_type_ids"].tolist()
    return [(item.ids, types[row][: len(item.ids)]) for row, item in enumerate(encoded)]


def _spell(tokens: Tokens | str) -> str:
    if isinstance(tokens, str):
        return f"an error ({tokens})"
    ids, types = tokens
    shown = f"{ids[:24]}{' ...' if len(ids) > 24 else ''}"
    return f"{shown} with types {types[:24]}" if any(types) else shown
