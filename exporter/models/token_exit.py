"""TOKEE: words of a sentence leave a BERT one by one, and the layers after that skip them.

A word that left keeps its hidden state, which the others still attend to; queries, feed-forward
and norms are computed for the tokens that go on. The rule is part of the model because it decides
what the next layer computes; its thresholds are knobs that the traced graph reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effbert.exporter.encoders.attention_parts import compute_attention
from effbert.exporter.models.exit_model import Description, ExitModel, additive_mask


class TokenExitModel(ExitModel):
    """A BERT whose words stop where they and their neighbours are sure of their labels."""

    def __init__(
        self,
        backbone: nn.Module,
        heads: Sequence[nn.Linear],
        description: Description,
        *,
        renormalise: bool,
        whole_words: bool,
    ) -> None:
        """Take a BERT encoder and one classifier a layer.

        Args:
            backbone: Transformers' BertModel.
            heads: Classifiers of every layer.
            description: What the bundle is to say.
            renormalise: Pass words that left through the norm of every later layer
                (`keep_norm_same` of the authors' code); else they stay as they were.
            whole_words: All pieces of a word leave with it; else its first piece only.
        """
        super().__init__()
        self.model: Any = backbone
        self.exit = nn.ModuleList(heads)
        self.description = description
        self.renormalise = renormalise
        self.whole_words = whole_words

    def exits(
        self, input_ids: Tensor, mask: Tensor, token_type_ids: Tensor | None, **more: Any
    ) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """See `ExitModel.exits`; the mask may be 0/1 or additive."""
        words: Tensor = more["word_map"]
        additive = mask if mask.ndim == 4 else additive_mask(mask)
        positions = torch.arange(words.shape[1])
        first = words == positions
        hidden = self.model.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        before_norm = hidden
        left = torch.zeros_like(first)
        depth = torch.zeros_like(words)
        answer = torch.zeros(())
        exits = []
        for index, (layer, head) in enumerate(
            zip(self.model.encoder.layer, self.exit, strict=True)
        ):
            gone = _of_word(left, words) & (words >= 0)
            goes_on = ~(gone if self.whole_words else left)
            hidden, before_norm = self._layer(layer, hidden, before_norm, goes_on, additive)
            logits = head(hidden)
            answer = logits if index == 0 else torch.where(gone[..., None], answer, logits)
            depth = torch.where(gone, depth, index + 1)
            unsure = normalised_entropy(logits)
            around = window_maximum(unsure, first, more["window"])
            sure = (around < more["threshold"][index]) | (unsure < more["token_threshold"][index])
            left = left | (first & sure)
            words_left = (first & ~left).sum(1).float()
            outputs = {"logits": answer, "exit_layer": depth, "words_left": words_left}
            exits.append((hidden, outputs))
        return exits

    def _layer(
        self,
        layer: Any,
        hidden: Tensor,
        before_norm: Tensor,
        goes_on: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Run a layer for the tokens that go on, all tokens being keys."""
        # A symbol while torch traces: int() of it would make torch start over, and print its graph.
        count: Any = goes_on.sum(1).max().clamp(min=1).item()
        torch._check(count >= 1)
        torch._check(count <= hidden.shape[1])
        order = torch.where(goes_on, 0, hidden.shape[1]) + torch.arange(hidden.shape[1])
        chosen = order.argsort(dim=1)[:, :count]
        keep = torch.gather(goes_on, 1, chosen)[..., None]
        where = chosen[..., None].expand(-1, -1, hidden.shape[2])
        own = torch.gather(hidden, 1, where)
        module = layer.attention.self
        keys, values = module.key(hidden), module.value(hidden)
        heads = module.num_attention_heads
        context = compute_attention(module.query(own), keys, values, heads, mask)
        attended = layer.attention.output(context, own)
        wide = layer.intermediate(attended)
        summed = layer.output.dense(wide) + attended
        if self.renormalise:
            old = torch.gather(before_norm, 1, where)
            before_norm = before_norm.scatter(1, where, torch.where(keep, summed, old))
            return layer.output.LayerNorm(before_norm), before_norm
        normed = layer.output.LayerNorm(summed)
        return hidden.scatter(1, where, torch.where(keep, normed, own)), before_norm


def normalised_entropy(logits: Tensor) -> Tensor:
    """Entropy / ln C from unshifted exponentials, as the authors compute it: [..., C] to [...]."""
    exponential = logits.exp()
    total = exponential.sum(-1)
    entropy = total.log() - (logits * exponential).sum(-1) / total
    return entropy / math.log(logits.shape[-1])


def window_maximum(values: Tensor, first: Tensor, window: Tensor) -> Tensor:
    """Compute the largest value [batch, sequence] within window // 2 words of every word."""
    number = first.long().cumsum(1)
    distance = (number[:, :, None] - number[:, None, :]).abs()
    near = (distance <= window // 2) & first[:, None, :]
    return torch.where(near, values[:, None, :], -math.inf).amax(-1)


def _of_word(values: Tensor, words: Tensor) -> Tensor:
    """Give every piece the value [batch, sequence] of its word's first piece."""
    return torch.gather(values, 1, words.clamp(min=0))
