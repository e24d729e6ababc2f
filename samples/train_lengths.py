"""Teach a checkpoint with exits to answer with tokens dropped, at any length configuration.

    python samples/train_lengths.py CHECKPOINT train.csv NEW_CHECKPOINT
    effbert-export NEW_CHECKPOINT bundle --length-adaptive

CHECKPOINT is what train_exits.py wrote. Every step runs the full model, which learns from the
labels, the steepest schedule, and two random ones between; those learn from what the full model
says (LengthDrop with the sandwich rule and in-place distillation: Kim and Cho, ACL 2021).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from data import read_rows
from deebert import load, save
from effbert.exporter.layer_parts import layer_parts
from effbert.exporter.length_drop import DropRule, LengthDropEncoder
from train_exits import BATCH, MAX_TOKENS, batches, joint_loss

STEEPEST = 0.2  # share of its tokens that a layer drops at most
RANDOM = 2  # schedules between the steepest and none


def schedules(layers: int) -> list[Tensor]:
    """The steepest schedule and random ones: the share of tokens left after each layer."""
    drops = [torch.full((layers,), STEEPEST), *torch.rand(RANDOM, layers) * STEEPEST]
    return [torch.tensor(list(accumulate((1 - each).tolist(), mul))) for each in drops]


def answers(
    encoder: LengthDropEncoder, exits: nn.ModuleList, ids: Tensor, mask: Tensor, lengths: Tensor
) -> list[Tensor]:
    """Logits [batch, labels] of every exit."""
    states = encoder(ids, mask, lengths).hidden_states[1:]
    return [exit_(hidden) for exit_, hidden in zip(exits, states, strict=True)]


def towards(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """Mean cross-entropy of each exit towards the same exit of the full model."""
    losses = [
        cross_entropy(student, teacher.detach().softmax(-1))
        for student, teacher in zip(students, teachers, strict=True)
    ]
    return torch.stack(losses).mean()


def train(
    encoder: LengthDropEncoder,
    exits: nn.ModuleList,
    examples: Sequence[tuple[list[int], int]],
    tokenizer: object,
    epochs: int,
    rate: float,
) -> None:
    """Trains all but the word embeddings, in place."""
    encoder.encoder.embeddings.word_embeddings.requires_grad_(False)
    parameters = [p for p in [*encoder.parameters(), *exits.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    per_epoch = math.ceil(len(examples) / BATCH)
    schedule = OneCycleLR(optimizer, rate, total_steps=epochs * per_epoch, pct_start=0.1)
    encoder.train()
    for epoch in range(epochs):
        for step, (ids, mask, labels) in enumerate(batches(examples, tokenizer)):
            full = answers(encoder, exits, ids, mask, torch.ones(len(exits)))
            losses = [joint_loss(full, labels)]
            losses[0].div(2 + RANDOM).backward()
            for lengths in schedules(len(exits)):
                losses.append(towards(answers(encoder, exits, ids, mask, lengths), full))
                losses[-1].div(2 + RANDOM).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step % 50 == 0:
                said = "  ".join(f"{loss:.3f}" for loss in losses)
                print(f"epoch {epoch + 1}/{epochs} step {step:4}/{per_epoch}  loss full {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("checkpoint", type=Path, help="what train_exits.py wrote")
    parser.add_argument("data", type=Path, help="CSV file with the columns text and label")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-4, help="highest learning rate")
    options = parser.parse_args()

    torch.manual_seed(0)
    rows = read_rows(options.data)
    backbone, exits, tokenizer = load(options.checkpoint)
    numbers = backbone.config.label2id
    tokens = tokenizer([text for text, _ in rows], truncation=True, max_length=MAX_TOKENS)
    examples = [(ids, numbers[y]) for ids, (_, y) in zip(tokens["input_ids"], rows, strict=True)]
    encoder = LengthDropEncoder(backbone, layer_parts(backbone.config), DropRule())
    train(encoder, exits, examples, tokenizer, options.epochs, options.rate)
    save(options.output, backbone, exits, tokenizer)
    print(f"{options.output}: export it with --length-adaptive")


if __name__ == "__main__":
    main()
