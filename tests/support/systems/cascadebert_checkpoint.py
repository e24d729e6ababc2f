"""Small random CascadeBERT checkpoints (Li et al., 2021) in the layout the authors publish.

As in `checkpoints`, names and shapes are spelled out. config.json is the largest member's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from checkpoints import (
    HIDDEN,
    Shapes,
    _config,
    _linear,
    _new_config,
    _write,
    age_keys,
    bert_shapes,
    random_tensors,
    write_noise,
)
from vocabularies import write_tokenizer


def write_cascadebert(
    folder: Path,
    *,
    depths: Sequence[int] = (1, 3),
    labels: int = 3,
    tokenizer: str | None = "slow",
    noise: bool = False,
    seed: int = 1,
) -> Path:
    """Write a CascadeBERT checkpoint and return its folder.

    Args:
        depths: Layers of each member.
        labels: Number of labels; 1 makes a regression.
        tokenizer: "fast", "slow" or None.
        noise: Add training left-overs, old key names and a `position_ids` buffer.
    """
    shapes: Shapes = {}
    for member, layers in enumerate(depths):
        shapes |= bert_shapes(f"cascade_models.{member}", layers)
        shapes |= _linear(f"cascade_classifiers.{member}", labels, HIDDEN)
    tensors = random_tensors(shapes, HIDDEN, seed)
    if noise:
        for member in range(len(depths)):
            tensors = age_keys(tensors, f"cascade_models.{member}")
    config = _config("bert", max(depths), HIDDEN)
    config |= _new_config("bert", "CascadeBERTForSequenceClassification", labels, "")
    del config["transformers_version"]  # 3.4.0 does not write it
    _write(folder, tensors, config, "pytorch_model.bin")
    write_tokenizer(folder, "bert", tokenizer)
    if noise:
        write_noise(folder)
    return folder
