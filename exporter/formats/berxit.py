"""BERxiT: Early Exiting for BERT with Better Fine-Tuning and Extension to Regression (EACL 2021).

DeeBERT's highways on BERT, RoBERTa, ALBERT and DistilBERT, and a classifier that learns when to
exit, which is trained where config.json's `divide` ends in `-lte`. The highway after the last layer
stays untrained and, as in the authors' code, is not asked unless the user turns it on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.checkpoints.tensors import Tensors
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "BERxiT (Xin et al., EACL 2021), https://aclanthology.org/2021.eacl-main.8"
LEARNED = {"single-label": "learned", "regression": "learned"}
REGRESSION = (
    "No row exits early: entropy says nothing about a regression, and learning to exit was not "
    "trained (`divide` in config.json must end in -lte)."
)


@dataclass(frozen=True)
class Layout:
    """Names of a family's tensors: where the highways are, and what pools at them and at the end.

    `learns` tells whether the authors' model has a learning-to-exit classifier.
    """

    encoder: str
    exit_pooler: str
    main_pooler: str
    learns: bool = True


LAYOUTS = {
    "bert": Layout("bert.encoder", "pooler.dense", "bert.pooler.dense"),
    "roberta": Layout("roberta.encoder", "pooler.dense", "roberta.pooler.dense"),
    "albert": Layout("albert.encoder", "pooler.dense", "albert.pooler", learns=False),
    "distilbert": Layout("distilbert.transformer", "pre_classifier", "pre_classifier"),
}


def detect(shapes: Shapes, config: Config) -> bool:
    """Highways with one of the marks that DeeBERT's do not have."""
    encoders = {layout.encoder for layout in LAYOUTS.values()}
    marks = "divide" in config or any("lte_classifier" in k or k[:5] == "core." for k in shapes)
    if not marks:  # nor does it run on these
        encoders = {"albert.encoder", "distilbert.transformer"}
    return any(key.startswith(f"{encoder}.highway.") for encoder in encoders for key in shapes)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the encoder with its highways, main head and, where trained, exit scores.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape.
        ExportError: The task or the exits asked for do not exist, or learning to exit was not
            trained.
    """
    import torch

    from effbert.exporter.encoders.load import FixedPositions, describe_classifier, load_backbone
    from effbert.exporter.heads.linear import load_linear
    from effbert.exporter.heads.pooled import PooledHead, PooledHeads
    from effbert.exporter.heads.scored import EXIT_SCORE, ScoredHeads
    from effbert.exporter.models.exit_model import INPUT_NAMES, MultiExitModel

    options.require_task("text-classification", "BERxiT's highways classify texts")
    tensors = checkpoint.load_tensors()
    prefix = next(p for p, s in LAYOUTS.items() if any(k.startswith(s.encoder) for k in tensors))
    layout, distil = LAYOUTS[prefix], prefix == "distilbert"
    backbone = load_backbone(checkpoint, tensors, prefix)
    config = backbone.config
    hidden, depth = config.hidden_size, config.num_hidden_layers
    if f"{layout.encoder}.highway.{depth}.classifier.weight" in tensors:
        raise CheckpointError(
            f"{checkpoint.name} has more highways than the {depth} layers of config.json."
        )
    classes = load_linear(tensors, "classifier", hidden).out_features

    def head(pooler: str, classifier: str) -> PooledHead:
        return PooledHead(
            load_linear(tensors, pooler, hidden, hidden),
            load_linear(tensors, classifier, hidden, classes),
            torch.relu if distil else torch.tanh,
        )

    layers = options.choose_layers(tuple(range(1, depth + 1)))
    names = [f"{layout.encoder}.highway.{index}" for index in range(depth)]
    highways = [head(f"{name}.{layout.exit_pooler}", f"{name}.classifier") for name in names]
    main = head(layout.main_pooler, "classifier")
    heads = PooledHeads(
        layers,
        [highways[layer - 1] for layer in layers],
        main if layers[-1] == depth else None,
        overrides=options.last_highway is True,
    )
    learned = _learned(checkpoint, layout, options)
    if not learned:
        checkpoint.account.leave_out(
            re.escape(f"{layout.encoder}.lte_classifier.") + "(weight|bias)",
            "the classifier that learns to exit, which was not trained",
        )
    description = describe_classifier(
        "berxit",
        PAPER,
        config,
        classes,
        layers,
        LEARNED if learned else {"single-label": "entropy-exp"},
        inputs=INPUT_NAMES[:2] if distil else INPUT_NAMES,
        extras=(EXIT_SCORE,) if learned else (),
        notes=(REGRESSION,) if classes == 1 and not learned else (),
    )
    score = load_linear(tensors, f"{layout.encoder}.lte_classifier", hidden, 1) if learned else None
    _leave_out_copies(checkpoint, tensors)
    return MultiExitModel(
        FixedPositions(backbone, first=2) if prefix == "roberta" else backbone,
        heads if score is None else ScoredHeads(heads, score, pooled=not distil),
        description,
        inner=getattr(config, "inner_group_num", 1),
    )


def _leave_out_copies(checkpoint: Checkpoint, tensors: Tensors) -> None:
    """Leave out the authors' second names: `core` is the encoder, DistilBERT's layers have two.

    Raises:
        CheckpointError: A copy differs from what it is a copy of.
    """
    prefix = next(p for p, s in LAYOUTS.items() if any(k.startswith(s.encoder) for k in tensors))
    copies = []
    for name in tensors:
        own = f"{prefix}.{name.removeprefix('core.')}" if name.startswith("core.") else name
        own = own.replace("distilbert.encoder.", "distilbert.transformer.", 1)
        if own != name and own in tensors:
            copies.append(name)
            if not tensors.equal(name, own):
                raise CheckpointError(
                    f"{checkpoint.name}: {name} and {own} should be the same tensor and differ; "
                    "save the checkpoint again."
                )
    checkpoint.account.leave_out(
        "|".join(map(re.escape, copies)), "second names of the encoder's tensors"
    )


def _learned(checkpoint: Checkpoint, layout: Layout, options: LoadOptions) -> bool:
    """Tell whether learning to exit was trained; its tensors are there, at random, even if not."""
    divide = str(checkpoint.config.get("divide", "missing"))
    trained = layout.learns and divide.endswith("-lte")
    if options.policy == "learned" and not trained:
        why = f"`divide` in config.json is {divide}, not one that ends in -lte"
        raise ExportError(
            f"Policy learned needs exits trained for it, and those of {checkpoint.name} are not: "
            f"{why if layout.learns else 'the ALBERT of BERxiT has none'}; leave --policy out."
        )
    return trained


FORMAT = Format(
    name="berxit",
    paper=PAPER,
    detect=detect,
    load=load,
    policies=("entropy-exp", "learned"),
    last_highway=True,
)
