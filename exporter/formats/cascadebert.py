"""CascadeBERT: Calibrated Complete Models Cascade (Li et al., Findings of EMNLP 2021).

Complete BERTs of growing depth in one checkpoint, each with its own pooler and classifier. A row
goes to the next member, which starts again from its token ids, unless a member is confident.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    import transformers

    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "CascadeBERT (Li et al., Findings of EMNLP 2021), https://arxiv.org/abs/2012.14682"
LAYER = re.compile(r"cascade_models\.(\d{1,9})\.encoder\.layer\.(\d{1,9})\..*")
COUNTED = (
    "The members run {depths} layers, all that the checkpoint holds, whatever sizes they were "
    "trained from; an exit's layer is the sum over the members run so far."
)
UNSURE = (
    "Probabilities do not tell how sure a member is of {problem} outputs, so all members run and "
    "the last one answers; --exits {last} exports that one alone."
)


def detect(shapes: Shapes, config: Config) -> bool:
    """Recognise the first member of a cascade."""
    del config  # that of the largest member
    return any(key.startswith("cascade_models.0.") for key in shapes)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build every member, as deep as its tensors say, with its head.

    `options.exits` name members by the sum of layers up to them; members left out do not run.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape.
        ExportError: The task or the exits asked for do not exist.
    """
    from effbert.exporter.encoders.labels import config_problem
    from effbert.exporter.encoders.load import describe_classifier, load_backbone
    from effbert.exporter.heads.linear import load_linear
    from effbert.exporter.heads.pooled import PooledHead
    from effbert.exporter.models.cascade import CascadeModel

    options.require_task("text-classification", "the members of a cascade classify whole texts")
    tensors, depths = checkpoint.load_tensors(), _depths(checkpoint)
    sums = tuple(accumulate(depths))
    members = [sums.index(layer) for layer in options.choose_layers(sums)]
    for other in set(range(len(sums))).difference(members):
        checkpoint.account.leave_out(
            rf"cascade_(models|classifiers)\.{other}\..+",
            f"member {other}, which --exits leaves out",
        )

    def encoder(member: int) -> transformers.PreTrainedModel:
        prefix = f"cascade_models.{member}."
        named = replace(checkpoint, name=f"{checkpoint.name} ({prefix}* read as bert.*)")
        own = tensors.renamed(
            lambda name: name.replace(prefix, "bert.", 1) if name.startswith(prefix) else None
        )
        config = {**checkpoint.config, "num_hidden_layers": depths[member]}
        return load_backbone(named, own, "bert", config)

    def head(member: int) -> PooledHead:
        pooler = load_linear(tensors, f"cascade_models.{member}.pooler.dense", hidden, hidden)
        return PooledHead(
            pooler, load_linear(tensors, f"cascade_classifiers.{member}", hidden, classes)
        )

    encoders = [encoder(member) for member in members]
    config = encoders[-1].config
    hidden = config.hidden_size
    classes = load_linear(tensors, f"cascade_classifiers.{members[-1]}", hidden).out_features
    meaning = config_problem(config, classes)
    notes = [COUNTED.format(depths=" + ".join(str(depths[member]) for member in members))]
    if meaning != "single-label" and len(members) > 1:
        notes.append(UNSURE.format(problem=meaning, last=sums[members[-1]]))
    description = describe_classifier(
        "cascadebert",
        PAPER,
        config,
        classes,
        tuple(accumulate(depths[member] for member in members)),
        {"single-label": "confidence-above"},
        notes=tuple(notes),
    )
    return CascadeModel(encoders, [head(member) for member in members], description)


def _depths(checkpoint: Checkpoint) -> list[int]:
    """Count the layers of each member: config.json tells only those of one.

    Raises:
        CheckpointError: A member, or a layer of one, is missing in between.
    """
    layers: dict[int, set[int]] = {}
    for match in filter(None, map(LAYER.fullmatch, checkpoint.shapes)):
        layers.setdefault(int(match[1]), set()).add(int(match[2]))
    for index, member in enumerate(sorted(layers)):
        if member != index or layers[member] != set(range(len(layers[member]))):
            raise CheckpointError(
                f"{checkpoint.name} is incomplete: a member before cascade_models.{member}, or a "
                "layer of that one, is missing; fetch it again."
            )
    if not layers:
        raise CheckpointError(f"{checkpoint.name} is incomplete: its members have no layers.")
    return [len(layers[member]) for member in sorted(layers)]


FORMAT = Format(
    name="cascadebert", paper=PAPER, detect=detect, load=load, policies=("confidence-above",)
)
