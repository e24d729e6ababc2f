"""A BERT with an exit after every layer, and its checkpoint in the layout of DeeBERT."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, BertModel, PreTrainedTokenizerBase

from effbert.exporter.quiet import quietly


class Exit(nn.Module):
    """Logits [batch, labels] from hidden states [batch, sequence, hidden]."""

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.pooler = nn.ModuleDict({"dense": nn.Linear(hidden, hidden)})
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(hidden, labels)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.classifier(self.dropout(torch.tanh(self.pooler["dense"](hidden[:, 0]))))


@torch.no_grad()
def renew_first_token(backbone: BertModel, token: int) -> None:
    """Make the first token an average word at an average position.

    Sentence encoders trained with mean pooling never read it. In MiniLM it attends only to itself
    from the second layer to the last but one, so nothing that an exit could use arrives there.
    """
    words = backbone.embeddings.word_embeddings.weight
    positions = backbone.embeddings.position_embeddings.weight
    words[token] = words.mean(0)
    positions[0] = positions[1:20].mean(0)


def load(folder: Path) -> tuple[BertModel, nn.ModuleList, PreTrainedTokenizerBase]:
    """Read what `save` wrote: the backbone, its exits and the tokenizer."""
    tensors = load_file(folder / "model.safetensors")
    with quietly():
        backbone = BertModel.from_pretrained(folder, add_pooling_layer=False)
    labels = tensors["classifier.weight"].shape[0]
    size = backbone.config.hidden_size
    exits = nn.ModuleList(Exit(size, labels) for _ in backbone.encoder.layer)
    prefix = "bert.encoder.highway."
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    exits.load_state_dict(own)
    return backbone, exits, AutoTokenizer.from_pretrained(folder)


def save(
    folder: Path, backbone: BertModel, exits: nn.ModuleList, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write the keys of DeeBERT's port to transformers; its main head is the last exit."""
    last = exits[-1].state_dict()
    tensors = {f"bert.{name}": value for name, value in backbone.state_dict().items()}
    tensors |= {f"bert.encoder.highway.{k}": v for k, v in exits.state_dict().items()}
    tensors |= {f"bert.{k}" if k.startswith("pooler") else k: v.clone() for k, v in last.items()}
    backbone.config.architectures = ["DeeBertForSequenceClassification"]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    backbone.config.to_json_file(folder / "config.json")
