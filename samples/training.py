"""What the training scripts have in common: examples, batches of similar length, the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from transformers import PreTrainedTokenizerBase

from data import Row

BATCH = 32
MAX_TOKENS = 128
Example = tuple[list[int], int]  # token ids, number of the label


def label_numbers(rows: Sequence[Row]) -> dict[str, int]:
    """A number for each label, in alphabetical order."""
    return {label: number for number, label in enumerate(sorted({label for _, label in rows}))}


def tokenize(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, numbers: Mapping[str, int]
) -> list[Example]:
    """Texts as token ids, labels as numbers."""
    tokens = tokenizer([text for text, _ in rows], truncation=True, max_length=MAX_TOKENS)
    return [
        (ids, numbers[label]) for ids, (_, label) in zip(tokens["input_ids"], rows, strict=True)
    ]


def batches(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Shuffled rows of similar length: ids and mask [batch, sequence], labels [batch]."""
    order = torch.randperm(len(examples)).tolist()
    for start in range(0, len(order), 20 * BATCH):
        pool = sorted(order[start : start + 20 * BATCH], key=lambda i: len(examples[i][0]))
        starts = torch.arange(0, len(pool), BATCH)
        for first in starts[torch.randperm(len(starts))].tolist():
            ids, labels = zip(*(examples[i] for i in pool[first : first + BATCH]), strict=True)
            rows = tokenizer.pad({"input_ids": ids}, return_tensors="pt", verbose=False)
            yield rows["input_ids"], rows["attention_mask"], torch.tensor(labels)


def fit(
    trained: Iterable[nn.Parameter],
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    epochs: int,
    rate: float,
    learn: Callable[[Tensor, Tensor, Tensor], str],
) -> None:
    """Take one AdamW step per batch; `rate` is the highest learning rate.

    `learn` takes ids, mask and labels, computes gradients, and returns a line about the step.
    """
    parameters = [parameter for parameter in trained if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, fused=True)
    per_epoch = math.ceil(len(examples) / BATCH)
    steps = epochs * per_epoch
    warm_up = min(0.5, max(0.1, 2 / steps))  # a tenth, and more than one step
    schedule = OneCycleLR(optimizer, rate, total_steps=steps, pct_start=warm_up)
    for epoch in range(epochs):
        for step, (ids, mask, labels) in enumerate(batches(examples, tokenizer)):
            said = learn(ids, mask, labels)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step % 50 == 0:
                print(f"epoch {epoch + 1}/{epochs} step {step:4}/{per_epoch}  {said}", flush=True)
