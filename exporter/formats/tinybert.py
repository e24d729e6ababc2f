"""TinyBERT: Distilling BERT for Natural Language Understanding (Jiao et al., EMNLP Findings 2020).

Checkpoints of a task from the authors' code classify ReLU(tanh(pooler)), which plain BERT does not;
the layers that matched the teacher's width during distillation have no part in the answer. Their
general models fine-tuned with transformers are plain.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "TinyBERT (Jiao et al., EMNLP Findings 2020), https://arxiv.org/abs/1909.10351"
FIT = re.compile(r"fit_dense\.weight|fit_denses\.\d+\.weight")


def detect(shapes: Shapes, config: Config) -> bool:
    """Layers that fitted the teacher's width, and a classifier, which general models lack."""
    del config
    return "classifier.weight" in shapes and any(map(FIT.fullmatch, shapes))


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build transformers' classifier with a ReLU behind the pooler's tanh.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape.
        ExportError: The task or the exits do not exist.
    """
    from torch import nn

    from effbert.exporter.formats.plain import build

    options.require_task("text-classification", "TinyBERT's task models classify texts")
    # The authors' config says neither what the model is nor how many classes it has.
    config = {"model_type": "bert", **checkpoint.config}
    config["architectures"] = ["BertForSequenceClassification"]
    classes = checkpoint.shapes["classifier.weight"][:1]
    if classes and len(config.get("id2label") or ()) != classes[0]:
        config = {k: v for k, v in config.items() if k not in ("id2label", "label2id")}
        config["num_labels"] = classes[0]
    model = build(checkpoint, options, name="tinybert", paper=PAPER, config=config)
    model.model.get_submodule("bert.pooler").activation = nn.Sequential(nn.Tanh(), nn.ReLU())
    return model


FORMAT = Format(
    name="tinybert", paper=PAPER, detect=detect, load=load, policies=("none",), skips_layers=True
)
