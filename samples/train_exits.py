"""Train an exit after every layer of a BERT, and write a DeeBERT checkpoint.

    python samples/train_exits.py BERT_FOLDER train.csv CHECKPOINT

Each exit is a pooler and a classifier over the first token (DeeBERT, Xin et al., 2020). Backbone
and exits learn together, the earlier exits from the labels and from what the last one says (as in
self-distillation, Zhang et al., 2019). With --two-stage training is as in DeeBERT's paper: first
the backbone with its last exit, then the other exits, with everything else frozen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, BertModel, PreTrainedTokenizerBase

from data import read_rows
from deebert import Exit, renew_first_token, save
from effbert.exporter.quiet import quietly
from training import Example, fit, label_numbers, tokenize


def joint_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """The mean over the exits: cross-entropy, for the earlier ones half of it towards the last."""
    last = logits[-1]
    teacher = last.detach().softmax(-1)
    earlier = [
        (cross_entropy(student, labels) + cross_entropy(student, teacher)) / 2
        for student in logits[:-1]
    ]
    return torch.stack([*earlier, cross_entropy(last, labels)]).mean()


def last_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy of the last exit: the first of two stages."""
    return cross_entropy(logits[-1], labels)


def earlier_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """The mean cross-entropy of all exits but the last: the second of two stages."""
    return torch.stack([cross_entropy(each, labels) for each in logits[:-1]]).mean()


def train(
    backbone: BertModel,
    exits: nn.ModuleList,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    epochs: int,
    rate: float,
    loss_of: Callable[[Sequence[Tensor], Tensor], Tensor] = joint_loss,
) -> None:
    """Train everything that is not frozen, in place."""

    def learn(ids: Tensor, mask: Tensor, labels: Tensor) -> str:
        hidden = backbone(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        logits = [exit_(states) for exit_, states in zip(exits, hidden[1:], strict=True)]
        loss = loss_of(logits, labels)
        loss.backward()
        right = " ".join(f"{(x.argmax(-1) == labels).float().mean():4.0%}" for x in logits)
        return f"loss {loss:.3f}  right at each exit {right}"

    backbone.train()
    parameters = [*backbone.parameters(), *exits.parameters()]
    fit(parameters, examples, tokenizer, epochs, rate, learn)


def train_in_two_stages(
    backbone: BertModel,
    exits: nn.ModuleList,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    epochs: int,
    rate: float,
) -> None:
    """Train the backbone with its last exit, freeze both, and train the earlier exits."""
    exits[:-1].requires_grad_(False)
    train(backbone, exits, examples, tokenizer, epochs, rate, last_loss)
    backbone.requires_grad_(False)
    exits[-1].requires_grad_(False)
    exits[:-1].requires_grad_(True)
    train(backbone, exits, examples, tokenizer, epochs, rate, earlier_loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("backbone", help="folder or hub name of a BERT")
    parser.add_argument("data", type=Path, help="CSV file with the columns text and label")
    parser.add_argument("checkpoint", type=Path, help="folder to write")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-4, help="highest learning rate")
    parser.add_argument("--renew-first-token", action="store_true", help="for sentence encoders")
    parser.add_argument("--two-stage", action="store_true", help="train the earlier exits last")
    options = parser.parse_args()

    torch.manual_seed(0)
    rows = read_rows(options.data)
    numbers = label_numbers(rows)
    names = {number: name for name, number in numbers.items()}
    tokenizer = AutoTokenizer.from_pretrained(options.backbone)
    with quietly():
        backbone = BertModel.from_pretrained(
            options.backbone, add_pooling_layer=False, id2label=names, label2id=numbers
        )
    if options.renew_first_token:
        renew_first_token(backbone, tokenizer.cls_token_id)
    size = backbone.config.hidden_size
    exits = nn.ModuleList(Exit(size, len(names)) for _ in backbone.encoder.layer)
    examples = tokenize(rows, tokenizer, numbers)
    backbone.embeddings.word_embeddings.requires_grad_(False)
    teach = train_in_two_stages if options.two_stage else train
    teach(backbone, exits, examples, tokenizer, options.epochs, options.rate)
    save(options.checkpoint, backbone, exits, tokenizer)
    print(f"{options.checkpoint}: {len(exits)} exits, {len(names)} labels")


if __name__ == "__main__":
    main()
