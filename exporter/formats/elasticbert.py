"""ElasticBERT: Towards Efficient NLP, a standard evaluation and a strong baseline (NAACL 2022).

A BERT pre-trained with an exit at every layer. Fine-tuned dynamically it has one classifier an exit
and stops by entropy or patience; fine-tuned statically it has a single classifier after the last
layer.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "ElasticBERT (Liu et al., NAACL 2022), https://aclanthology.org/2022.naacl-main.240"
PREFIX = "elasticbert"
RULES = {
    "single-label": "entropy-exp",
    "regression": "patience-regression",
}
STATIC = (
    "This ElasticBERT was fine-tuned statically: it has one trained exit, after its last layer, so "
    "no row can stop early; fine-tune it dynamically, with num_output_layers equal to "
    "num_hidden_layers, to get one after every layer."
)


def detect(shapes: Shapes, config: Config) -> bool:
    """Any tensor called `elasticbert.*`; what else is missing is said when it is loaded."""
    del config  # edited by users, who copy it between BERTs
    return any(key.startswith(f"{PREFIX}.") for key in shapes)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the encoder, cut to the layers of config.json, with its classifiers.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape, or it is not clear which
            layers the classifiers belong to.
        ExportError: The task or the exits asked for do not exist.
    """
    from torch import nn

    from effbert.exporter.encoders.load import describe_classifier, load_backbone
    from effbert.exporter.heads.linear import load_linear
    from effbert.exporter.heads.pooled import PooledHead, PooledHeads
    from effbert.exporter.models.exit_model import MultiExitModel

    options.require_task("text-classification", "ElasticBERT's classifiers read whole texts")
    tensors = checkpoint.load_tensors()
    named = replace(checkpoint, name=f"{checkpoint.name} ({PREFIX}.* read as bert.*)")
    bert = tensors.renamed(
        lambda name: name.replace(PREFIX, "bert", 1) if name.startswith(f"{PREFIX}.") else None
    )
    backbone = load_backbone(named, bert, "bert", {**checkpoint.config, "model_type": "bert"})
    config = backbone.config
    hidden, classifiers = config.hidden_size, _classifiers(checkpoint, config.num_hidden_layers)
    classes = load_linear(tensors, next(iter(classifiers.values())), hidden).out_features
    pooled = any(".pooler." in key for key in tensors)

    def head(layer: int) -> PooledHead:
        classifier = load_linear(tensors, classifiers[layer], hidden, classes)
        if not pooled:  # trained with add_pooling_layer=False
            return PooledHead(nn.Identity(), classifier, activation=nn.Identity())
        pooler = load_linear(tensors, f"{PREFIX}.encoder.pooler.{layer - 1}.dense", hidden, hidden)
        return PooledHead(pooler, classifier)

    every = {layer: head(layer) for layer in classifiers}
    _leave_out(checkpoint, classifiers, config.num_hidden_layers)
    static = "classifier" in classifiers.values()
    layers = options.choose_layers(tuple(classifiers))
    description = describe_classifier(
        "elasticbert",
        PAPER,
        config,
        classes,
        layers,
        {} if static else RULES,
        notes=(STATIC,) if static else (),
    )
    heads = PooledHeads(layers, [every[layer] for layer in layers])
    return MultiExitModel(backbone, heads, description)


def _leave_out(checkpoint: Checkpoint, exits: Collection[int], depth: int) -> None:
    """Leave out layers beyond those of config.json, and poolers that no classifier reads."""
    from effbert.exporter.checkpoints.leftovers import leave_out_deeper

    for prefix in (f"{PREFIX}.encoder.layer.", f"{PREFIX}.encoder.pooler.", "classifiers."):
        leave_out_deeper(checkpoint, prefix, depth, f"layers beyond the {depth} of config.json")
    for layer in set(range(1, depth + 1)).difference(exits):
        pooler = rf"{PREFIX}\.encoder\.pooler\.{layer - 1}\.dense\.(weight|bias)"
        checkpoint.account.leave_out(pooler, "a pooler that no classifier reads")


def _classifiers(checkpoint: Checkpoint, depth: int) -> dict[int, str]:
    """Name the classifier of each 1-based exit layer.

    With a classifier for every layer, their numbers are the layers'; files may hold more layers
    than config.json wants. With fewer, the exits are the last layers, and the poolers, always
    numbered by layer, must say so.

    Raises:
        CheckpointError: There are no layers or no classifiers, or it is not clear which layers
            they belong to.
    """
    if depth < 1:
        raise CheckpointError(
            f"{checkpoint.name}: config.json asks for {depth} layers; correct num_hidden_layers."
        )
    shapes = checkpoint.shapes
    found = _numbers(shapes, r"classifiers\.(\d{1,9})\.weight")
    if not found and "classifier.weight" in shapes:
        return {depth: "classifier"}
    if not found:
        raise CheckpointError(
            f"{checkpoint.name} is a pre-trained ElasticBERT without classifiers; fine-tune it "
            "first."
        )
    if len(found) >= depth:
        return {layer: f"classifiers.{layer - 1}" for layer in range(1, depth + 1)}
    first = depth - len(found)
    poolers = _numbers(shapes, rf"{PREFIX}\.encoder\.pooler\.(\d{{1,9}})\.dense\.weight")
    if found != set(range(len(found))) or poolers != set(range(first, depth)):
        raise CheckpointError(
            f"{checkpoint.name} has {len(found)} classifiers and {len(poolers)} poolers for "
            f"{depth} layers, which does not say where its exits are; correct num_hidden_layers in "
            "config.json, or fine-tune with num_output_layers equal to it."
        )
    return {first + index + 1: f"classifiers.{index}" for index in range(len(found))}


def _numbers(shapes: Shapes, pattern: str) -> set[int]:
    matches = (re.fullmatch(pattern, key) for key in shapes)
    return {int(match[1]) for match in matches if match}


FORMAT = Format(
    name="elasticbert",
    paper=PAPER,
    detect=detect,
    load=load,
    policies=("entropy-exp", "patience", "patience-regression"),
)
