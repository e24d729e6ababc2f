"""Train a BERT that can lose layers afterwards, and write a plain checkpoint.

    python samples/train_layerdrop.py BERT_FOLDER train.csv CHECKPOINT
    effbert-export CHECKPOINT bundle --layers alternate:3

Every step leaves out each layer with the same probability (LayerDrop: Fan, Grave and Joulin, 2020),
so that no layer relies on the one below it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, BertForSequenceClassification, PreTrainedTokenizerBase

from data import read_rows
from deebert import renew_first_token
from effbert.exporter.quiet import quietly
from training import Example, fit, label_numbers, tokenize


@contextmanager
def some_layers(model: BertForSequenceClassification, drop: float) -> Iterator[int]:
    """Leave each layer out with the probability `drop`; yield how many are left, maybe none."""
    encoder = model.bert.encoder
    every = encoder.layer
    encoder.layer = nn.ModuleList(layer for layer in every if torch.rand(()) >= drop)
    try:
        yield len(encoder.layer)
    finally:
        encoder.layer = every


def train(
    model: BertForSequenceClassification,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    epochs: int,
    rate: float,
    drop: float,
) -> None:
    """Train all but the word embeddings, in place."""
    model.bert.embeddings.word_embeddings.requires_grad_(False)

    def learn(ids: Tensor, mask: Tensor, labels: Tensor) -> str:
        with some_layers(model, drop) as left:
            answer = model(ids, attention_mask=mask, labels=labels)
            answer.loss.backward()
        right = (answer.logits.argmax(-1) == labels).float().mean()
        return f"{left:2} layers  loss {answer.loss:.3f}  right {right:4.0%}"

    model.train()
    fit(model.parameters(), examples, tokenizer, epochs, rate, learn)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("backbone", help="folder or hub name of a BERT")
    parser.add_argument("data", type=Path, help="CSV file with the columns text and label")
    parser.add_argument("checkpoint", type=Path, help="folder to write")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=2e-4, help="highest learning rate")
    parser.add_argument("--drop", type=float, default=0.3, help="share of layers left out")
    parser.add_argument("--renew-first-token", action="store_true", help="for sentence encoders")
    options = parser.parse_args()

    torch.manual_seed(0)
    rows = read_rows(options.data)
    numbers = label_numbers(rows)
    names = {number: name for name, number in numbers.items()}
    tokenizer = AutoTokenizer.from_pretrained(options.backbone)
    with quietly():
        model = BertForSequenceClassification.from_pretrained(
            options.backbone, id2label=names, label2id=numbers
        )
    if options.renew_first_token:
        renew_first_token(model.bert, tokenizer.cls_token_id)
    examples = tokenize(rows, tokenizer, numbers)
    train(model, examples, tokenizer, options.epochs, options.rate, options.drop)
    with quietly():
        model.save_pretrained(options.checkpoint)
    tokenizer.save_pretrained(options.checkpoint)
    print(f"{options.checkpoint}: {len(names)} labels; export it with --layers")


if __name__ == "__main__":
    main()
