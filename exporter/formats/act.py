"""ALBERT with Adaptive Computation Time (Simoulin and Crabbé, ACL student workshop 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "ALBERT-ACT (Simoulin and Crabbé, 2021), https://aclanthology.org/2021.acl-srw.23"
HALTING = "albert.encoder.albert_layer.act.dense"
LAYER = "albert.encoder.albert_layer."
SHARED = "albert.encoder.albert_layer_groups.0.albert_layers.0."
EPSILON = 0.01  # the authors' default, where config.json has no act_epsilon


def detect(shapes: Shapes, config: Config) -> bool:
    """Recognise the halting unit of the shared layer."""
    del config
    return f"{HALTING}.weight" in shapes


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the repeated layer with its halting unit and head.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape, or there is more than a layer.
        ExportError: The task or the exits asked for do not exist.
    """
    from effbert.exporter.encoders.load import describe_classifier, load_backbone
    from effbert.exporter.heads.linear import load_linear
    from effbert.exporter.heads.pooled import PooledHead
    from effbert.exporter.models.halting import HaltingModel

    options.require_task("text-classification", "its head classifies texts")
    tensors = checkpoint.load_tensors().renamed(
        lambda name: (
            SHARED + name.removeprefix(LAYER)
            if name.startswith(LAYER) and not name.startswith(HALTING)
            else name
        )
    )
    backbone = load_backbone(
        checkpoint, tensors, "albert", {**checkpoint.config, "model_type": "albert"}
    )
    config = backbone.config
    if (config.num_hidden_groups, config.inner_group_num) != (1, 1):
        raise CheckpointError(
            f"{checkpoint.name} repeats more than one layer, which ALBERT-ACT never does; correct "
            "num_hidden_groups and inner_group_num in config.json."
        )
    hidden, epsilon = config.hidden_size, checkpoint.config.get("act_epsilon", EPSILON)
    if not isinstance(epsilon, float | int) or not 0 <= epsilon < 1:
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: act_epsilon is {epsilon!r:.40}, expected a "
            "number from 0 to 1."
        )
    classifier = load_linear(tensors, "classifier", hidden)
    classes = classifier.out_features
    description = describe_classifier(
        "act",
        PAPER,
        config,
        classes,
        options.choose_layers(tuple(range(1, config.num_hidden_layers + 1))),
        {"single-label": "act", "regression": "act"},
        extras=("halted",),
        defaults={"threshold": 1.0 - epsilon} if options.policy in ("auto", "act") else {},
    )
    head = PooledHead(load_linear(tensors, "albert.pooler", hidden, hidden), classifier)
    return HaltingModel(
        backbone, load_linear(tensors, HALTING, hidden, 1), head, description, epsilon
    )


FORMAT = Format(name="act", paper=PAPER, detect=detect, load=load, policies=("act",))
