"""What a BERT of PoWER-BERT's Keras code computes otherwise than one of transformers.

The tensors of its layers by other names, kernels as [inputs, outputs], and attention with a small
constant in the denominator: exp(s - max s) / (sum of exp(s - max s) + 1e-7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from effbert.exporter.checkpoints.checkpoint import Checkpoint
from effbert.exporter.checkpoints.tensors import Account, Tensors
from effbert.exporter.encoders.attention_parts import compute_attention
from effbert.runtime.errors import CheckpointError

EPSILON = 1e-7  # of Keras; its LayerNormalization adds the square of it to the variance
# The authors' names, shapes (one letter an extent), and the names of transformers.
WHOLE = {
    "Embedding-Token/embeddings": ("VH", "bert.embeddings.word_embeddings.weight"),
    "Embedding-Position/embeddings": ("PH", "bert.embeddings.position_embeddings.weight"),
    "Embedding-Segment/embeddings": ("SH", "bert.embeddings.token_type_embeddings.weight"),
    "Embedding-Norm/gamma": ("H", "bert.embeddings.LayerNorm.weight"),
    "Embedding-Norm/beta": ("H", "bert.embeddings.LayerNorm.bias"),
    "NSP-Dense/kernel": ("HH", "bert.pooler.dense.weight"),
    "NSP-Dense/bias": ("H", "bert.pooler.dense.bias"),
    "NSP/kernel": ("HC", "classifier.weight"),
    "NSP/bias": ("C", "classifier.bias"),
}
LAYER = {
    "MultiHeadSelfAttention/Wq": ("HH", "attention.self.query.weight"),
    "MultiHeadSelfAttention/bq": ("H", "attention.self.query.bias"),
    "MultiHeadSelfAttention/Wk": ("HH", "attention.self.key.weight"),
    "MultiHeadSelfAttention/bk": ("H", "attention.self.key.bias"),
    "MultiHeadSelfAttention/Wv": ("HH", "attention.self.value.weight"),
    "MultiHeadSelfAttention/bv": ("H", "attention.self.value.bias"),
    "MultiHeadSelfAttention/Wo": ("HH", "attention.output.dense.weight"),
    "MultiHeadSelfAttention/bo": ("H", "attention.output.dense.bias"),
    "MultiHeadSelfAttention-Norm/gamma": ("H", "attention.output.LayerNorm.weight"),
    "MultiHeadSelfAttention-Norm/beta": ("H", "attention.output.LayerNorm.bias"),
    "FeedForward/W1": ("HI", "intermediate.dense.weight"),
    "FeedForward/b1": ("I", "intermediate.dense.bias"),
    "FeedForward/W2": ("IH", "output.dense.weight"),
    "FeedForward/b2": ("H", "output.dense.bias"),
    "FeedForward-Norm/gamma": ("H", "output.LayerNorm.weight"),
    "FeedForward-Norm/beta": ("H", "output.LayerNorm.bias"),
}


def count_layers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many encoder layers there are, counted from the first."""
    return next(i for i in count() if f"Encoder-{i + 1}-MultiHeadSelfAttention/Wq" not in shapes)


def measure_extents(checkpoint: Checkpoint) -> dict[str, int]:
    """Compare all shapes with the tables, and tell what their letters stand for.

    V is the vocabulary, P positions, S segments, H the hidden size, I neurons, C classes.

    Raises:
        CheckpointError: A tensor is missing, unknown or of the wrong shape.
    """
    shapes = checkpoint.shapes
    known: dict[str, int] = {}
    expected = {theirs: letters for theirs, letters, _ in _table(count_layers(shapes))}
    if missing := sorted(expected.keys() - shapes.keys()):
        raise CheckpointError(
            f"{checkpoint.name} lacks {len(missing)} tensors, such as {missing[0]}; fetch it again."
        )
    if unknown := sorted(shapes.keys() - expected.keys()):
        raise CheckpointError(
            f"{checkpoint.name} holds {len(unknown)} tensors that PoWER-BERT does not have, such "
            f"as {unknown[0]}; effbert exports what the authors' code saves."
        )
    for name, letters in expected.items():
        shape = shapes[name]
        wanted = [known.setdefault(a, max(n, 1)) for a, n in zip(letters, shape, strict=False)]
        if len(shape) != len(letters) or list(shape) != wanted:
            raise CheckpointError(
                f"{checkpoint.name}: {name} has shape {list(shape)}, expected "
                f"{[known.get(a, a) for a in letters]}; fetch the checkpoint again."
            )
    return known


def transformers_tensors(checkpoint: Checkpoint) -> Tensors:
    """Load the tensors by transformers' names, turned as transformers has them."""
    tensors = checkpoint.load_tensors()
    turned = {
        ours: tensors[theirs].T if _is_kernel(theirs, letters) else tensors[theirs]
        for theirs, letters, ours in _table(count_layers(checkpoint.shapes))
    }
    return Tensors(turned, Account())  # that of the checkpoint has them by their own names


def _table(layers: int) -> Iterator[tuple[str, str, str]]:
    for theirs, (letters, ours) in WHOLE.items():
        yield theirs, letters, ours
    for i in range(layers):
        for theirs, (letters, ours) in LAYER.items():
            yield f"Encoder-{i + 1}-{theirs}", letters, f"bert.encoder.layer.{i}.{ours}"


def _is_kernel(name: str, letters: str) -> bool:
    return len(letters) == 2 and not name.startswith("Embedding-")


class KerasSelfAttention(nn.Module):
    """BERT's self-attention with Keras' constant, instead of transformers' own."""

    constant = EPSILON

    def __init__(self, own: Any) -> None:
        """Take the layers of a BertSelfAttention."""
        super().__init__()
        self.query, self.key, self.value = own.query, own.key, own.value
        self.num_attention_heads = own.num_attention_heads
        self.attention_head_size = own.attention_head_size

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        """Attend; the mask is additive, and none where nothing is padding."""
        mask = torch.zeros(()) if attention_mask is None else attention_mask
        projected = self.query(hidden_states), self.key(hidden_states), self.value(hidden_states)
        return compute_attention(*projected, self.num_attention_heads, mask, self.constant), None


def attend_like_keras(bert: Any) -> None:
    """Replace the self-attention of every layer of a BertModel, in place."""
    for layer in bert.encoder.layer:
        layer.attention.self = KerasSelfAttention(layer.attention.self)
