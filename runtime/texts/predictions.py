"""Model outputs to answers a person can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, to_builtins

from effbert.runtime.bundle.manifest import Activation, Manifest, Problem
from effbert.runtime.chain.results import Result
from effbert.runtime.texts.tokenization import EncodedText

LONGEST_ANSWER = 30  # word pieces


class Prediction(Struct, frozen=True, kw_only=True):
    """What every prediction tells; `to_dict` gives it for `json.dumps`.

    Attributes:
        exit_layer: 1-based encoder layer the answer comes from (the deepest of its tokens).
        signal: What the exit policy compared.
        truncated: The text was longer than the model reads.
        deadline_hit: The answer is the last one before the deadline.
    """

    exit_layer: int
    signal: float
    truncated: bool
    deadline_hit: bool

    def to_dict(self) -> dict[str, Any]:
        """Give the attributes as plain dicts, lists, texts and numbers."""
        plain: dict[str, Any] = to_builtins(self)
        return plain


class Classification(Prediction, frozen=True, kw_only=True):
    """A label for a text.

    Attributes:
        label: The label with the highest score.
        label_id: Its id, from 0.
        score: Its probability, or whatever the bundle's `activation` makes of its logit; for
            regression the predicted value.
        scores: Label -> score (multi-label: each on its own); of labels with one name the highest.
        probabilities: The score of every id, in their order.
        labels: Multi-label: all labels with a probability of 0.5 or more; else the one label.
    """

    label: str
    label_id: int
    score: float
    scores: dict[str, float]
    probabilities: list[float]
    labels: list[str]


class Entity(Struct, frozen=True, kw_only=True):
    """The label of one word piece; the piece is `text[start:end]`."""

    token: str
    label: str
    score: float
    start: int
    end: int


class TokenLabels(Prediction, frozen=True, kw_only=True):
    """A label for every word piece of a text."""

    entities: list[Entity]


class Answer(Prediction, frozen=True, kw_only=True):
    """The part of a context that answers a question, `context[start:end]`; empty if there is none.

    `score` is the probability of its first token times that of its last, within the context.
    """

    answer: str
    score: float
    start: int
    end: int


def make_predictions(
    manifest: Manifest, encoded: Sequence[EncodedText], result: Result
) -> list[Prediction]:
    """One prediction for each row of `result`, whose texts are `encoded`."""
    read = _READERS[manifest.task]
    return [
        read(manifest, item, result, row, {
            "exit_layer": int(np.max(result.exit_layer[row])),
            "signal": float(result.signal[row]),
            "truncated": bool(result.truncated[row]),
            "deadline_hit": bool(result.deadline_hit[row]),
        })
        for row, item in enumerate(encoded)
    ]  # fmt: skip


def _classification(
    manifest: Manifest, _: EncodedText, result: Result, row: int, common: dict[str, Any]
) -> Classification:
    logits = result.logits[row].astype(np.float64)
    values = ACTIVATIONS[manifest.activation or USUAL_ACTIVATIONS[manifest.problem]](logits)
    labels = _labels(manifest, len(values))
    best = int(values.argmax())
    chosen = [best]
    if manifest.problem == "multi-label":
        chosen = np.flatnonzero(values >= 0.5).tolist()
    scores: dict[str, float] = {}
    for name, value in zip(labels, values.tolist(), strict=True):
        scores[name] = max(value, scores.get(name, value))
    return Classification(
        label=labels[best],
        label_id=best,
        score=float(values[best]),
        scores=scores,
        probabilities=values.tolist(),
        labels=[labels[index] for index in chosen],
        **common,
    )


def _token_labels(
    manifest: Manifest, item: EncodedText, result: Result, row: int, common: dict[str, Any]
) -> TokenLabels:
    encoding = item.encoding
    probabilities = _softmax(result.logits[row, : len(item.ids)].astype(np.float64))
    labels = _labels(manifest, probabilities.shape[-1])
    best = probabilities.argmax(axis=-1)
    entities = [
        Entity(
            token=encoding.tokens[index],
            label=labels[best[index]],
            score=float(probabilities[index, best[index]]),
            start=start,
            end=end,
        )
        for index, (start, end) in enumerate(encoding.offsets)
        if not encoding.special_tokens_mask[index]
    ]
    return TokenLabels(entities=entities, **common)


def _answer(
    _: Manifest, item: EncodedText, result: Result, row: int, common: dict[str, Any]
) -> Answer:
    outputs = result.outputs
    start, end, score = best_span(item, outputs["start_logits"][row], outputs["end_logits"][row])
    return Answer(answer=item.text[1][start:end], score=score, start=start, end=end, **common)


def best_span(item: EncodedText, starts: np.ndarray, ends: np.ndarray) -> tuple[int, int, float]:
    """Find the likeliest answer in a context.

    Args:
        item: Question and context.
        starts: Logits of the first token, float32 [sequence].
        ends: Those of the last.

    Returns:
        Where it starts and ends in the context, in characters, and its probability; (0, 0, 0.0)
        if no token of the context was read.
    """
    context = [index for index, part in enumerate(item.encoding.sequence_ids) if part == 1]
    if not context:
        return 0, 0, 0.0
    first = _softmax(starts[context].astype(np.float64))
    last = _softmax(ends[context].astype(np.float64))
    spans = np.tril(np.triu(np.outer(first, last)), LONGEST_ANSWER - 1)
    begin, finish = np.unravel_index(spans.argmax(), spans.shape)
    start = item.encoding.offsets[context[begin]][0]
    end = item.encoding.offsets[context[finish]][1]
    return start, end, float(spans[begin, finish])


_READERS = {
    "text-classification": _classification,
    "token-classification": _token_labels,
    "question-answering": _answer,
}


def _labels(manifest: Manifest, count: int) -> list[str]:
    return manifest.labels or [f"LABEL_{index}" for index in range(count)]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))  # without overflow


ACTIVATIONS: dict[Activation, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "identity": lambda logits: logits,
}
USUAL_ACTIVATIONS: dict[Problem | None, Activation] = {
    "single-label": "softmax",
    "multi-label": "sigmoid",
    "regression": "identity",
    None: "softmax",
}
