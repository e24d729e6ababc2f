"""PoWER-BERT's own checkpoints: whole Keras models in HDF5 (Goyal et al., ICML 2020).

The authors' code writes three: `finetune.hdf5`, a BERT; `configuration_search_model.hdf5`, from
which the retention configuration is read; and `retrained.hdf5`, trained with that configuration,
which the file itself does not hold but the `log_file.txt` beside it does.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.encoders.length_adaptive import LengthOptions
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "PoWER-BERT (Goyal et al., ICML 2020), https://arxiv.org/abs/2001.08950"
ATTENTION, FEED_FORWARD = "Encoder-1-MultiHeadSelfAttention", "Encoder-1-FeedForward"
SOFT, HARD = f"{ATTENTION}-Soft-Extract", f"{ATTENTION}-Extract"
ACTIVATIONS = {"gelu_tensorflow": "gelu", "relu": "relu"}  # Keras' names and transformers'
LOG = "log_file.txt"
LOGGED = re.compile(r"Retention Configuration :\[(\d{1,9}(?:, \d{1,9})*)\]")
MAX_LOG_BYTES = 1 << 22


def detect(shapes: Shapes, config: Config) -> bool:
    """Layers by the names that the authors gave them."""
    del config
    return f"{ATTENTION}/Wq" in shapes


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build a BERT with the authors' attention, which drops no tokens yet.

    Its classifier ends in a softmax there; here it answers logits, as all formats do.

    Raises:
        CheckpointError: Tensors or settings are missing or do not fit, or no training ended here.
        ExportError: The task or the exits do not exist.
    """
    from effbert.exporter.encoders.power_bert import attend_like_keras, transformers_tensors
    from effbert.exporter.formats.plain import build

    if SOFT in _layers(checkpoint.config) or f"{SOFT}/W" in checkpoint.shapes:
        raise CheckpointError(
            f"{checkpoint.name} is the model of the configuration search, which only weighs tokens "
            "(Soft-Extract layers); export retrained.hdf5, which the next step of the training "
            "writes."
        )
    trained = _trained_counts(checkpoint)
    note = f"{LOG} says that it was trained with --retention {','.join(map(str, trained))}."
    model = build(
        checkpoint,
        options,
        name="power",
        paper=PAPER,
        config=_bert_config(checkpoint),
        tensors=transformers_tensors(checkpoint),
        notes=(note,) if trained else (),
    )
    attend_like_keras(model.model.base_model)
    return model


def complete_lengths(checkpoint: Checkpoint, asked: LengthOptions | None) -> LengthOptions | None:
    """Complete what the user says about dropped tokens: the rule, and the trained configuration.

    Raises:
        CheckpointError: The model was trained to drop tokens, and nothing tells how many.
    """
    from effbert.exporter.encoders.length_adaptive import LengthOptions
    from effbert.exporter.encoders.power_bert import count_layers, measure_extents

    if asked is not None and asked.retention is not None:
        return asked
    layers = count_layers(checkpoint.shapes)
    if trained := _trained_counts(checkpoint):
        return replace(asked or LengthOptions(), retention=trained)
    if asked is not None:  # the authors' own default, which drops nothing
        return replace(asked, retention=(measure_extents(checkpoint)["P"],) * layers)
    if _drops(checkpoint.config):
        raise CheckpointError(
            f"{checkpoint.name} was trained to drop tokens, but does not hold how many; say "
            f"--retention N,N,.. with {layers} counts, which the training wrote to {LOG}."
        )
    return None


def _bert_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Make a config for transformers: extents from shapes, the rest from the settings of layers."""
    from effbert.exporter.encoders.power_bert import EPSILON, count_layers, measure_extents

    found, layers = measure_extents(checkpoint), _layers(checkpoint.config)
    heads = layers.get(ATTENTION, {}).get("head_num")
    activation = layers.get(FEED_FORWARD, {}).get("activation")
    if type(heads) is not int or heads < 1 or found["H"] % heads:
        raise CheckpointError(
            f"{checkpoint.name}: {heads!r:.20} attention heads do not share a hidden size of "
            f"{found['H']}; save the whole model, whose model_config has the right head_num."
        )
    if activation not in ACTIVATIONS:
        raise CheckpointError(
            f"{checkpoint.name}: {activation!r:.40} is no activation of PoWER-BERT, which has "
            f"{' and '.join(ACTIVATIONS)}."
        )
    return {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "vocab_size": found["V"],
        "max_position_embeddings": found["P"],
        "type_vocab_size": found["S"],
        "hidden_size": found["H"],
        "intermediate_size": found["I"],
        "num_labels": found["C"],
        "num_hidden_layers": count_layers(checkpoint.shapes),
        "num_attention_heads": heads,
        "hidden_act": ACTIVATIONS[activation],
        "layer_norm_eps": EPSILON**2,
    }


def _layers(config: Config) -> dict[str, dict[str, Any]]:
    """Return settings of each layer by its name, from Keras' model_config."""
    model = config.get("config")
    listed = model.get("layers") if isinstance(model, dict) else None
    layers = listed if isinstance(listed, list) else []
    settings = [layer.get("config") for layer in layers if isinstance(layer, dict)]
    return {str(each.get("name")): each for each in settings if isinstance(each, dict)}


def _drops(config: Config) -> bool:
    return HARD in _layers(config)


def _trained_counts(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Return the retention configuration of a model that drops tokens, if its log tells."""
    from effbert.exporter.encoders.power_bert import count_layers

    path = checkpoint.folder / LOG
    if not _drops(checkpoint.config) or not path.is_file() or path.stat().st_size > MAX_LOG_BYTES:
        return ()
    found = LOGGED.findall(path.read_text("utf-8", errors="replace"))
    counts = tuple(map(int, found[-1].split(","))) if found else ()
    return counts if len(counts) == count_layers(checkpoint.shapes) else ()


FORMAT = Format(
    name="power",
    paper=PAPER,
    detect=detect,
    load=load,
    policies=("none",),
    lengths=complete_lengths,
)
