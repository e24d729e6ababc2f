"""DynaBERT: Dynamic BERT with Adaptive Width and Depth (Hou et al., NeurIPS 2020).

The tensors are those of a plain BERT or RoBERTa at full size; only the config shows how it was
trained. `--widths` and `--depths` cut smaller networks out of it; see `exporter.encoders.sizes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "DynaBERT (Hou et al., NeurIPS 2020), https://arxiv.org/abs/2004.04037"
ARCHITECTURES = {
    "bert": "BertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
}
# What its training switches on, and inference does not need.
TRAINING = ("output_attentions", "output_hidden_states", "output_intermediate")


def detect(shapes: Shapes, config: Config) -> bool:
    """Recognise a config that asks for outputs inside a layer, as only DynaBERT's training does."""
    fits = config.get("model_type") in (None, _backbone(shapes))
    return fits and _backbone(shapes) is not None and config.get("output_intermediate") is True


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the full-size model.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape.
        ExportError: The task or the exits do not exist.
    """
    from effbert.exporter.formats.plain import build

    backbone = _backbone(checkpoint.shapes) or "bert"
    own = {name: value for name, value in checkpoint.config.items() if name not in TRAINING}
    config = {"model_type": backbone, "architectures": [ARCHITECTURES[backbone]], **own}
    return build(checkpoint, options, name="dynabert", paper=PAPER, config=config)


def _backbone(shapes: Shapes) -> str | None:
    found = (
        name for name in ARCHITECTURES if f"{name}.embeddings.word_embeddings.weight" in shapes
    )
    return next(found, None)


FORMAT = Format(
    name="dynabert", paper=PAPER, detect=detect, load=load, policies=("none",), skips_layers=True
)
