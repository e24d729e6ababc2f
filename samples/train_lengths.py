"""Train a checkpoint with exits to answer with tokens dropped, at any length configuration.

    python samples/train_lengths.py CHECKPOINT train.csv NEW_CHECKPOINT
    effbert-export NEW_CHECKPOINT bundle --length-adaptive

CHECKPOINT is what train_exits.py wrote. Every step runs the full model, which learns from the
labels, the steepest schedule, and a random one between; those learn from what the full model
says (LengthDrop with the sandwich rule and in-place distillation: Kim and Cho, ACL 2021).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from data import read_rows
from deebert import load, save
from effbert.exporter.encoders.layer_parts import layer_parts
from effbert.exporter.encoders.length_drop import DropRule, LengthDropEncoder
from train_exits import joint_loss
from training import Example, fit, tokenize

STEEPEST = 0.2  # share of its tokens that a layer drops at most
RANDOM = 1  # schedules between the steepest and none


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
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    epochs: int,
    rate: float,
) -> None:
    """Train all but the word embeddings, in place."""
    encoder.encoder.embeddings.word_embeddings.requires_grad_(False)

    def learn(ids: Tensor, mask: Tensor, labels: Tensor) -> str:
        full = answers(encoder, exits, ids, mask, torch.ones(len(exits)))
        losses = [joint_loss(full, labels)]
        losses[0].div(2 + RANDOM).backward()
        for lengths in schedules(len(exits)):
            losses.append(towards(answers(encoder, exits, ids, mask, lengths), full))
            losses[-1].div(2 + RANDOM).backward()
        return "loss full " + "  ".join(f"{loss:.3f}" for loss in losses)

    encoder.train()
    parameters = [*encoder.parameters(), *exits.parameters()]
    fit(parameters, examples, tokenizer, epochs, rate, learn)


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
    examples = tokenize(rows, tokenizer, backbone.config.label2id)
    encoder = LengthDropEncoder(backbone, layer_parts(backbone.config), DropRule())
    train(encoder, exits, examples, tokenizer, options.epochs, options.rate)
    save(options.output, backbone, exits, tokenizer)
    print(f"{options.output}: export it with --length-adaptive")


if __name__ == "__main__":
    main()
