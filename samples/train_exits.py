"""Train an exit after every layer of a BERT, and write a DeeBERT checkpoint.

    python samples/train_exits.py BERT_FOLDER train.csv CHECKPOINT

Backbone and exits learn together. Each exit is a pooler and a classifier over the first token
(DeeBERT, Xin et al., 2020); the earlier ones learn from the labels and from what the last exit
says (as in self-distillation, Zhang et al., 2019).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from transformers import AutoTokenizer, BertModel, PreTrainedTokenizerBase

from data import read_rows
from deebert import Exit, renew_first_token, save
from effbert.exporter.quiet import quietly

BATCH = 32
MAX_TOKENS = 128
Example = tuple[list[int], int]  # token ids, number of the label


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


def joint_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """The mean over the exits: cross-entropy, for the earlier ones half of it towards the last."""
    last = logits[-1]
    teacher = last.detach().softmax(-1)
    earlier = [
        (cross_entropy(student, labels) + cross_entropy(student, teacher)) / 2
        for student in logits[:-1]
    ]
    return torch.stack([*earlier, cross_entropy(last, labels)]).mean()


def train(
    backbone: BertModel,
    exits: nn.ModuleList,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    epochs: int,
    rate: float,
) -> None:
    """Trains all but the word embeddings, in place; `rate` is the highest learning rate."""
    backbone.embeddings.word_embeddings.requires_grad_(False)
    parameters = [p for p in [*backbone.parameters(), *exits.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    per_epoch = math.ceil(len(examples) / BATCH)
    schedule = OneCycleLR(optimizer, rate, total_steps=epochs * per_epoch, pct_start=0.1)
    backbone.train()
    for epoch in range(epochs):
        for step, (ids, mask, labels) in enumerate(batches(examples, tokenizer)):
            hidden = backbone(ids, attention_mask=mask, output_hidden_states=True).hidden_states
            logits = [exit_(states) for exit_, states in zip(exits, hidden[1:], strict=True)]
            loss = joint_loss(logits, labels)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step % 50 == 0:
                right = " ".join(f"{(x.argmax(-1) == labels).float().mean():4.0%}" for x in logits)
                where = f"epoch {epoch + 1}/{epochs} step {step:4}/{per_epoch}"
                print(f"{where}  loss {loss:.3f}  right at each exit {right}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("backbone", help="folder or hub name of a BERT")
    parser.add_argument("data", type=Path, help="CSV file with the columns text and label")
    parser.add_argument("checkpoint", type=Path, help="folder to write")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-4, help="highest learning rate")
    parser.add_argument("--renew-first-token", action="store_true", help="for sentence encoders")
    options = parser.parse_args()

    torch.manual_seed(0)
    rows = read_rows(options.data)
    names = dict(enumerate(sorted({label for _, label in rows})))
    numbers = {name: number for number, name in names.items()}
    tokenizer = AutoTokenizer.from_pretrained(options.backbone)
    with quietly():
        backbone = BertModel.from_pretrained(
            options.backbone, add_pooling_layer=False, id2label=names, label2id=numbers
        )
    if options.renew_first_token:
        renew_first_token(backbone, tokenizer.cls_token_id)
    size = backbone.config.hidden_size
    exits = nn.ModuleList(Exit(size, len(names)) for _ in backbone.encoder.layer)
    tokens = tokenizer([text for text, _ in rows], truncation=True, max_length=MAX_TOKENS)
    examples = [(ids, numbers[y]) for ids, (_, y) in zip(tokens["input_ids"], rows, strict=True)]
    train(backbone, exits, examples, tokenizer, options.epochs, options.rate)
    save(options.checkpoint, backbone, exits, tokenizer)
    print(f"{options.checkpoint}: {len(exits)} exits, {len(names)} labels")


if __name__ == "__main__":
    main()
