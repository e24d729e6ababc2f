"""Small random ElasticBERT checkpoints (Liu et al., NAACL 2022) in the layout the authors publish.

As in `checkpoints`, names and shapes are spelled out. Poolers are part of the encoder and numbered
by layer; classifiers are numbered by exit.
"""

from __future__ import annotations

from pathlib import Path

import torch

from checkpoints import (
    HIDDEN,
    _config,
    _linear,
    _new_config,
    _write,
    bert_shapes,
    random_tensors,
    write_noise,
)
from vocabularies import MAX_TOKENS, write_tokenizer


def write_elasticbert(
    folder: Path,
    *,
    static: bool = False,
    layers: int = 4,
    stored: int | None = None,
    exits: int | None = None,
    labels: int = 3,
    pooled: bool = True,
    tokenizer: str | None = "slow",
    noise: bool = False,
    seed: int = 1,
) -> Path:
    """Write an ElasticBERT checkpoint and return its folder.

    Args:
        static: One classifier after the last layer, instead of one an exit.
        layers: `num_hidden_layers` of the config.
        stored: Layers, poolers and classifiers in the file; as many as `layers` if None.
        exits: `num_output_layers`; as many as `layers` if None, 1 if static.
        labels: Number of labels; 1 makes a regression.
        pooled: Pool the first token; without, classifiers read its hidden state.
        tokenizer: "fast", "slow" or None.
        noise: Add training left-overs.
    """
    stored = stored or layers
    exits = exits or (1 if static else layers)
    shapes = bert_shapes("elasticbert", stored)
    del shapes["elasticbert.pooler.dense.weight"], shapes["elasticbert.pooler.dense.bias"]
    last = stored if exits == layers else exits
    for i in range(stored - last if pooled else stored, stored):
        shapes |= _linear(f"elasticbert.encoder.pooler.{i}.dense", HIDDEN, HIDDEN)
    if static:
        shapes |= _linear("classifier", labels, HIDDEN)
    else:
        for i in range(last):
            shapes |= _linear(f"classifiers.{i}", labels, HIDDEN)
    tensors = random_tensors(shapes, HIDDEN, seed)
    tensors["elasticbert.embeddings.position_ids"] = torch.arange(MAX_TOKENS)[None]
    config = _config("bert", layers, HIDDEN) | {
        **_new_config("bert", "ElasticBertForSequenceClassification", labels, "4.8.2"),
        "model_type": "elasticbert",
        "gradient_checkpointing": False,
        "max_output_layers": 12,
        "num_output_layers": exits,
    }
    _write(folder, tensors, config, "pytorch_model.bin")
    write_tokenizer(folder, "bert", tokenizer)
    if noise:
        write_noise(folder)
    return folder
