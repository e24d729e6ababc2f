"""A Global Past-Future Early Exit Method for Accelerating Inference (Liao et al., NAACL 2021).

BERT, RoBERTa and ALBERT. Every exit answers from the states of all layers so far and from what it
predicts for the layers to come; two running sums cross from exit to exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "Global Past-Future (Liao et al., NAACL 2021), https://aclanthology.org/2021.naacl-main.162"
BACKBONES = ("bert", "roberta", "albert")
GATE = "classifiers.gate_proj.weight"


def detect(shapes: Shapes, config: Config) -> bool:
    """Recognise the layer that predicts later states, and the gate between past and future."""
    del config  # the authors save that of a plain model
    predicts = any(f"{prefix}.pred_layer.weight" in shapes for prefix in BACKBONES)
    return predicts and len(shapes.get(GATE, ())) == 2


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the encoder with its past-future heads.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape.
        ExportError: The task or the exits asked for do not exist.
    """
    from effbert.exporter.encoders.load import FixedPositions, describe_classifier, load_backbone
    from effbert.exporter.heads.linear import load_linear, stacked_linear
    from effbert.exporter.heads.past_future import PastFutureHeads
    from effbert.exporter.models.exit_model import MultiExitModel

    options.require_task("text-classification", "past-future exits classify whole texts")
    tensors = checkpoint.load_tensors()
    prefix = next(p for p in BACKBONES if f"{p}.pred_layer.weight" in tensors)
    # The authors' RoBERTa numbers positions from 2, whatever padding id its config was saved with.
    fields = {**checkpoint.config, "pad_token_id": 1} if prefix == "roberta" else None
    backbone = load_backbone(checkpoint, tensors, prefix, fields)
    config = backbone.config
    hidden, depth = config.hidden_size, config.num_hidden_layers
    classes = tensors[GATE].shape[-1]
    if prefix == "albert":
        poolers = [load_linear(tensors, "albert.pooler", hidden, hidden)] * depth
    else:
        names = [f"{prefix}.poolers.{index}.dense" for index in range(depth)]
        poolers = [load_linear(tensors, name, hidden, hidden) for name in names]
        checkpoint.account.leave_out(
            rf"{prefix}\.pooler\.dense\.(weight|bias)",
            "the plain model's pooler, which no exit reads",
        )
    layers = options.choose_layers(tuple(range(1, depth + 1)))
    description = describe_classifier(
        "gpfee", PAPER, config, classes, layers, {"single-label": "entropy-naive"}
    )
    heads = PastFutureHeads(
        layers,
        poolers,
        stacked_linear(tensors, f"{prefix}.pred_layer", depth, hidden, hidden),
        stacked_linear(tensors, "classifiers", depth, hidden, 2 * classes),
        load_linear(tensors, "classifiers.gate_proj", classes, classes),
    )
    return MultiExitModel(
        FixedPositions(backbone, first=2) if prefix == "roberta" else backbone,
        heads,
        description,
        inner=getattr(config, "inner_group_num", 1),
    )


FORMAT = Format(name="gpfee", paper=PAPER, detect=detect, load=load, policies=("entropy-naive",))
