"""What every exit's answers to some texts are worth, in numbers that a metric adds up later.

Facts are arrays by name. Those of exits are [exits, rows, ...]; the others are [rows, ...].

- `predicted`, int16 or int32, and `truth`, int64: ids of labels.
- `values`, float32, and `truth`, float64: numbers that the model answers.
- `counts`, int64 [exits, rows, 3]: right, answered and asked-for labels, words or entities.
- `scores`, float32: the share of a right answer, `exact` whether it is exactly right.
- `same`, bool: whether the answer is that of full depth.
- `logits`, float32 [exits, rows, labels]: as the model gives them, for up to 64 labels.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.points.examples import Example
from effbert.runtime.texts.predictions import best_span
from effbert.runtime.texts.tokenization import EncodedText
from effbert.runtime.texts.words import first_pieces

Facts = dict[str, np.ndarray]
Outputs = Mapping[str, np.ndarray]
OF_EXITS = frozenset({"predicted", "values", "counts", "scores", "exact", "same", "logits"})
MOST_LABELS = 64  # whose logits are kept


def grade(
    manifest: Manifest, texts: Sequence[EncodedText], examples: Sequence[Example], outputs: Outputs
) -> Facts:
    """Compare the answers of every exit with what is right.

    Args:
        manifest: Of the bundle.
        texts: Rows in the order of the outputs.
        examples: Of the same rows; without truths, the answers of full depth count as right.
        outputs: Of `run_exits`, [exits, rows, ...].
    """
    return _GRADERS[_kind(manifest)](manifest, texts, examples, outputs)


def _kind(manifest: Manifest) -> str:
    if manifest.problem in ("regression", "multi-label"):
        return str(manifest.problem)
    return str(manifest.task)


def _labels(
    manifest: Manifest, texts: Sequence[EncodedText], examples: Sequence[Example], outputs: Outputs
) -> Facts:
    logits = outputs["logits"]
    predicted = logits.argmax(-1)
    kind = np.int16 if logits.shape[-1] < 1 << 15 else np.int32
    facts = {"predicted": predicted.astype(kind), "same": predicted == predicted[-1]}
    if logits.shape[-1] <= MOST_LABELS:
        facts["logits"] = logits
    truth = predicted[-1] if _unlabelled(examples) else [each.truth for each in examples]
    return facts | {"truth": np.asarray(truth, dtype=np.int64)}


def _numbers(
    manifest: Manifest, texts: Sequence[EncodedText], examples: Sequence[Example], outputs: Outputs
) -> Facts:
    values = outputs["logits"][..., 0]
    truth = values[-1] if _unlabelled(examples) else [each.truth for each in examples]
    return {
        "values": values,
        "same": values == values[-1],
        "truth": np.asarray(truth, dtype=np.float64),
    }


def _label_sets(
    manifest: Manifest, texts: Sequence[EncodedText], examples: Sequence[Example], outputs: Outputs
) -> Facts:
    chosen = outputs["logits"] >= 0  # a sigmoid of one half
    asked = chosen[-1]
    if not _unlabelled(examples):
        asked = np.zeros(chosen.shape[1:], dtype=bool)
        for row, example in enumerate(examples):
            asked[row, example.truth] = True
    counts = [
        (chosen & asked).sum(-1),
        chosen.sum(-1),
        np.broadcast_to(asked.sum(-1), chosen.shape[:2]),
    ]
    return {"counts": np.stack(counts, -1), "same": (chosen == chosen[-1]).all(-1)}


def _words(
    manifest: Manifest, texts: Sequence[EncodedText], examples: Sequence[Example], outputs: Outputs
) -> Facts:
    predicted = outputs["logits"].argmax(-1)
    names = manifest.labels
    spans = any(name[:2] in ("B-", "I-") for name in names)
    counts = np.zeros((*predicted.shape[:2], 3), dtype=np.int64)
    same = np.zeros(predicted.shape[:2], dtype=bool)
    for row, (text, example) in enumerate(zip(texts, examples, strict=True)):
        pieces = first_pieces(text)  # words that were cut off are left out
        answers = predicted[:, row, list(pieces.values())]
        same[:, row] = (answers == answers[-1]).all(-1)
        asked = answers[-1] if example.truth is None else [example.truth[word] for word in pieces]
        for index, answer in enumerate(answers):
            counts[index, row] = _compare_words(answer, asked, names if spans else None)
    return {"counts": counts, "same": same}


def _compare_words(
    answer: Sequence[int], asked: Sequence[int], names: Sequence[str] | None
) -> tuple[int, int, int]:
    if names is None:
        right = sum(one == other for one, other in zip(answer, asked, strict=True))
        return right, len(answer), len(asked)
    found, there = (set(entities([names[each] for each in ids])) for ids in (answer, asked))
    return len(found & there), len(found), len(there)


def entities(labels: Sequence[str]) -> list[tuple[str, int, int]]:
    """Find entities in IOB or IOB2 labels as seqeval's default mode does.

    Args:
        labels: One a word, such as "B-PER", "I-PER" and "O".

    Returns:
        Type, first word and last word of each entity. An I- after O, or after another type, begins
        one as B- does.
    """
    found: list[tuple[str, int, int]] = []
    kind, start = "", -1
    for index, label in enumerate([*labels, "O"]):
        prefix, _, name = label.partition("-")
        if start >= 0 and (prefix != "I" or name != kind):
            found.append((kind, start, index - 1))
            start = -1
        if prefix in ("B", "I") and start < 0:
            kind, start = name, index
    return found


def _spans(
    manifest: Manifest, texts: Sequence[EncodedText], examples: Sequence[Example], outputs: Outputs
) -> Facts:
    exits, rows = outputs["start_logits"].shape[:2]
    scores, exact = np.zeros((2, exits, rows), dtype=np.float32)
    same = np.zeros((exits, rows), dtype=bool)
    for row, (text, example) in enumerate(zip(texts, examples, strict=True)):
        answers = []
        for index in range(exits):
            here = (outputs[name][index, row] for name in ("start_logits", "end_logits"))
            start, end, _ = best_span(text, *here)
            answers.append(text.text[1][start:end])
        right = answers[-1:] if example.truth is None else example.truth or [""]
        scores[:, row] = [max(shared_words(each, other) for other in right) for each in answers]
        exact[:, row] = [any(plain(each) == plain(other) for other in right) for each in answers]
        same[:, row] = [each == answers[-1] for each in answers]
    return {"scores": scores, "exact": exact, "same": same}


def plain(answer: str) -> list[str]:
    """Normalise an answer as SQuAD's evaluation does: no case, punctuation or articles."""
    kept = "".join(letter for letter in answer.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def shared_words(answer: str, right: str) -> float:
    """F1 of the words of two answers, as SQuAD's evaluation counts them."""
    one, other = plain(answer), plain(right)
    if not one or not other:
        return float(one == other)
    shared = sum((Counter(one) & Counter(other)).values())
    return 2 * shared / (len(one) + len(other))


def _unlabelled(examples: Sequence[Example]) -> bool:
    return any(example.truth is None for example in examples)


_GRADERS: dict[str, Callable[[Manifest, Any, Any, Outputs], Facts]] = {
    "text-classification": _labels,
    "regression": _numbers,
    "multi-label": _label_sets,
    "token-classification": _words,
    "question-answering": _spans,
}
