"""Slow references of compressed BERTs, one unpadded row at a time, and how they are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from effbert.exporter.models.exit_model import ExitModel
from effbert.runtime import Session
from exit_checks import LOGITS_ATOL, ROW_ATOL, batch, batches, pad_id
from reference import Backbone, load_checkpoint

Answers = dict[str, np.ndarray]


class Encoder(Backbone):
    """A backbone with the head that its tensors show, some of its layers, heads of one size.

    `kept` names the layers that run, from 1; `head_size` is that of every head in every layer.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, object] = {},
        tensors: dict[str, Tensor] | None = None,
        head_size: int | None = None,
        kept: Sequence[int] | None = None,
        pooler: str = "tanh",
    ) -> None:
        stored, weights = load_checkpoint(folder)
        weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
        super().__init__(folder, config=stored | config, tensors=tensors or weights)
        self.head_size = head_size
        self.kept = range(1, self.layers + 1) if kept is None else kept
        self.pooler = pooler

    def attention(self, x: Tensor, query: str, key: str, value: str) -> Tensor:
        """As many heads as the query has rows for."""
        if self.head_size is None:
            return super().attention(x, query, key, value)
        q, k, v = (self.linear(name, x) for name in (query, key, value))
        heads = []
        for start in range(0, q.shape[1], self.head_size):
            part = slice(start, start + self.head_size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(self.head_size)
            heads.append(torch.softmax(scores, -1) @ v[:, part])
        return torch.cat(heads, -1)

    def last(self, ids: Sequence[int]) -> Tensor:
        """The output [tokens, hidden] of the last layer that runs."""
        row = torch.tensor(ids)
        x = self.embed(row, torch.zeros_like(row))
        if self.family == "albert":
            x = self.linear(f"{self.prefix}.encoder.embedding_hidden_mapping_in", x)
        layer = self.albert_layer if self.family == "albert" else self.bert_layer
        for number in self.kept:
            x = layer(number - 1, x)
        return x

    def answers(self, ids: Sequence[int]) -> Answers:
        """What the head says, by output name."""
        h, saved = self.last(ids), str(self.config.get("architectures"))
        if "qa_outputs.weight" in self.tensors:
            start, end = self.linear("qa_outputs", h).T
            return {"start_logits": start.numpy(), "end_logits": end.numpy()}
        if "TokenClassification" in saved:
            return {"logits": self.linear("classifier", h).numpy()}
        if "classifier.dense.weight" in self.tensors:
            pooled = torch.tanh(self.linear("classifier.dense", h[0]))
            return {"logits": self.linear("classifier.out_proj", pooled).numpy()}
        name = "albert.pooler" if self.family == "albert" else f"{self.prefix}.pooler.dense"
        pooled = torch.tanh(self.linear(name, h[0]))
        if self.pooler == "relu of tanh":
            pooled = torch.relu(pooled)
        return {"logits": self.linear("classifier", pooled).numpy()}


def theseus_reference(folder: Path) -> Encoder:
    """The successor alone."""
    tensors = {
        name.replace("scc_layer", "layer"): tensor
        for name, tensor in load_checkpoint(folder)[1].items()
        if ".encoder.layer." not in name
    }
    count = sum(name.endswith("attention.self.query.weight") for name in tensors)
    return Encoder(folder, config={"num_hidden_layers": count}, tensors=tensors)


def difference(found: Answers, expected: Answers) -> float:
    """The largest difference of one row's answers, padding cut off."""
    assert found.keys() == expected.keys()
    return max(
        float(np.abs(found[name][: len(value)] - value).max()) for name, value in expected.items()
    )


def torch_difference(model: ExitModel, reference: Encoder, rows: Sequence[Sequence[int]]) -> float:
    """The largest difference of an unexported model, row by row."""
    worst = 0.0
    for row in rows:
        ids = torch.tensor([row])
        with torch.inference_mode():
            [(_, outputs)] = model(ids, torch.ones_like(ids))
        found = {name: value[0].numpy() for name, value in outputs.items()}
        worst = max(worst, difference(found, reference.answers(row)))
    return worst


def check_answers(session: Session, reference: Encoder, rows: Sequence[Sequence[int]]) -> None:
    """Alone and in padded batches of different lengths the bundle answers as the reference."""
    alone = {}
    for sizes in ((1,), (16, 5)):
        index = 0
        for part in batches(rows, sizes):
            outputs = session.run(batch(part, pad_id(session))).outputs
            for place, row in enumerate(part):
                found = {name: value[place] for name, value in outputs.items()}
                assert difference(found, reference.answers(row)) <= LOGITS_ATOL
                kept = {name: v[: len(row)] for name, v in found.items()}
                assert difference(kept, alone.setdefault(index, kept)) <= ROW_ATOL
                index += 1
