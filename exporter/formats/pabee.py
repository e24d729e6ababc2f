"""PABEE: BERT Loses Patience (Zhou et al., NeurIPS 2020), BERT and ALBERT.

One classifier a layer behind one shared pooler; a single class means regression. LeeBERT
checkpoints have the same layout and rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "PABEE (Zhou et al., NeurIPS 2020), https://arxiv.org/abs/2006.04152"
RULES = {
    "single-label": "patience",
    "regression": "patience-regression",
}
POOLERS = {"bert": "bert.pooler.dense", "albert": "albert.pooler"}


def detect(shapes: Shapes, config: Config) -> bool:
    """Two-dimensional classifiers by layer, and one pooler of a BERT or ALBERT."""
    del config  # both published layouts say nothing reliable there
    return len(shapes.get("classifiers.0.weight", ())) == 2 and any(
        f"{pooler}.weight" in shapes for pooler in POOLERS.values()
    )


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the encoder with its classifiers.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape.
        ExportError: The task or the exits asked for do not exist.
    """
    from effbert.exporter.encoders.load import describe_classifier, load_backbone
    from effbert.exporter.heads.linear import load_linear
    from effbert.exporter.heads.pooled import PooledHead, PooledHeads
    from effbert.exporter.models.exit_model import MultiExitModel

    options.require_task("text-classification", "PABEE's classifiers read whole texts")
    tensors = checkpoint.load_tensors()
    prefix = next(p for p, pooler in POOLERS.items() if f"{pooler}.weight" in tensors)
    backbone = load_backbone(checkpoint, tensors, prefix)
    config = backbone.config
    hidden, depth = config.hidden_size, config.num_hidden_layers
    if f"classifiers.{depth}.weight" in tensors:
        raise CheckpointError(
            f"{checkpoint.name} has more classifiers than the {depth} layers of config.json."
        )
    pooler = load_linear(tensors, POOLERS[prefix], hidden, hidden)
    classes = tensors["classifiers.0.weight"].shape[0]
    heads = [
        PooledHead(pooler, load_linear(tensors, f"classifiers.{index}", hidden, classes))
        for index in range(depth)
    ]
    layers = options.choose_layers(tuple(range(1, depth + 1)))
    description = describe_classifier("pabee", PAPER, config, classes, layers, RULES)
    return MultiExitModel(
        backbone,
        PooledHeads(layers, [heads[layer - 1] for layer in layers]),
        description,
        inner=getattr(config, "inner_group_num", 1),
    )


FORMAT = Format(
    name="pabee",
    paper=PAPER,
    detect=detect,
    load=load,
    policies=("patience", "patience-regression"),
)
