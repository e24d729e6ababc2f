"""BERT-of-Theseus: Compressing BERT by Progressive Module Replacing (Xu et al., EMNLP 2020).

A checkpoint from training holds the large model and the small one that replaced its layers, the
successor; only that one runs. Converted checkpoints, such as the authors' on the hub, are plain.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "BERT-of-Theseus (Xu et al., EMNLP 2020), https://aclanthology.org/2020.emnlp-main.633"
SUCCESSOR, PREDECESSOR = "bert.encoder.scc_layer.", "bert.encoder.layer."


def detect(shapes: Shapes, config: Config) -> bool:
    """Layers of a successor."""
    del config
    return any(key.startswith(SUCCESSOR) for key in shapes)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the successor: embeddings, its layers, pooler and classifier.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape.
        ExportError: The task or the exits do not exist.
    """
    from effbert.exporter.formats.plain import build

    checkpoint.account.leave_out(
        re.escape(PREDECESSOR) + r"\d+\..+", "the predecessor, which the successor replaces"
    )
    tensors = checkpoint.load_tensors().renamed(
        lambda name: None if name.startswith(PREDECESSOR) else name.replace(SUCCESSOR, PREDECESSOR)
    )
    numbered = re.compile(re.escape(SUCCESSOR) + r"(\d+)\..+")
    layers = {match[1] for match in filter(None, map(numbered.fullmatch, checkpoint.shapes))}
    config = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        **checkpoint.config,
        "num_hidden_layers": len(layers),
    }
    return build(checkpoint, options, name="theseus", paper=PAPER, config=config, tensors=tensors)


FORMAT = Format(
    name="theseus", paper=PAPER, detect=detect, load=load, policies=("none",), skips_layers=True
)
