"""FastBERT: a Self-distilling BERT with Adaptive Inference Time (Liu et al., ACL 2020).

One classifier with its own attention after every layer of a BERT of the toolkit UER. Two layouts:
the authors' research script, and their package on PyPI, which prefixes the encoder with `kernel.`,
knows no second segment, and compares the entropy the other way round. The weights are one file, and
do not show everything: heads_num and pooling come from UER's own config, put beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.heads.student import Pooling
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "FastBERT (Liu et al., ACL 2020), https://aclanthology.org/2020.acl-main.537"
KERNEL = "kernel."
# Later settings of UER, all as FastBERT's version computes.
UER = {
    "hidden_act": "gelu",
    "layernorm_positioning": "post",
    "feed_forward": "dense",
    "factorized_embedding_parameterization": False,
    "parameter_sharing": False,
    "relative_position_embedding": False,
    "remove_embedding_layernorm": False,
}


def detect(shapes: Shapes, config: Config) -> bool:
    """Recognise a classifier that starts with a layer of its own."""
    del config  # that of the weights is optional
    return "classifiers.0.output_layer_0.weight" in shapes


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the encoder with its student and teacher classifiers.

    Raises:
        CheckpointError: Tensors or settings are missing or do not fit.
        ExportError: The task or the exits asked for do not exist.
    """
    from effbert.exporter.encoders.load import config_limits, describe_classifier, load_backbone
    from effbert.exporter.encoders.uer import UerModel, transformers_name, with_uer_norms
    from effbert.exporter.heads.student import StudentHead, StudentHeads
    from effbert.exporter.models.exit_model import INPUT_NAMES

    options.require_task("text-classification", "FastBERT's classifiers read whole texts")
    packaged = any(k.startswith(f"{KERNEL}encoder.transformer.0.") for k in checkpoint.shapes)
    checkpoint.account.leave_out(r"(kernel\.)?target\..+", "the heads of the pre-training")
    tensors = checkpoint.load_tensors().renamed(lambda name: name.removeprefix(KERNEL))
    shapes = {name.removeprefix(KERNEL): shape for name, shape in checkpoint.shapes.items()}
    settings = _settings(checkpoint, shapes)
    pooling = _pooling(checkpoint)
    backbone = load_backbone(checkpoint, tensors.renamed(transformers_name), "bert", settings)
    config = backbone.config
    hidden, (classes, _) = (
        config.hidden_size,
        _matrix(shapes, "classifiers.0.output_layer_2.weight"),
    )
    layers = options.choose_layers(tuple(range(1, config.num_hidden_layers + 1)))
    heads = [
        StudentHead(tensors, f"classifiers.{index}", hidden, classes, pooling)
        for index in range(config.num_hidden_layers)
    ]
    rule = "entropy-categorical" if packaged else "entropy-fastbert"
    description = describe_classifier(
        "fastbert",
        PAPER,
        config,
        classes,
        layers,
        {"single-label": rule},
        limits=msgspec.structs.replace(config_limits(config), type_vocab_size=0 if packaged else 2),
        inputs=INPUT_NAMES[:2] if packaged else INPUT_NAMES,
        padding_free=pooling == "first",
    )
    return UerModel(
        with_uer_norms(backbone),
        StudentHeads(layers, [heads[layer - 1] for layer in layers]),
        description,
    )


def _settings(checkpoint: Checkpoint, shapes: Shapes) -> dict[str, Any]:
    """Describe the encoder as a config of transformers, by its tensors and UER's config.

    Raises:
        CheckpointError: A tensor or heads_num is missing, or config.json says otherwise.
    """
    from effbert.exporter.encoders.honoured import require_honoured, require_values

    depth = 0
    while f"encoder.transformer.{depth}.feed_forward.linear_1.weight" in shapes:
        depth += 1
    vocabulary, hidden = _matrix(shapes, "embedding.word_embedding.weight")
    inner, _ = _matrix(shapes, "encoder.transformer.0.feed_forward.linear_1.weight")
    found = {"layers_num": depth, "hidden_size": hidden, "feedforward_size": inner}
    for name, value in found.items():
        if checkpoint.config.get(name, value) != value:
            raise CheckpointError(
                f"{checkpoint.name}: config.json has {name} {checkpoint.config[name]!r:.40}, the "
                f"weights have {value}; put the model's own config.json beside the weights."
            )
    require_honoured(checkpoint.folder / "config.json", checkpoint.config, "bert")
    require_values(checkpoint.folder / "config.json", checkpoint.config, UER)
    heads = checkpoint.config.get("heads_num")
    if type(heads) is not int or heads < 1 or hidden % heads:
        what = "no heads_num" if heads is None else f"heads_num {heads!r:.40}"
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'} has {what}, but the weights do not show how many "
            f"attention heads share the {hidden} hidden units; take heads_num from the UER config "
            "that the model was trained with (12 for BERT-base)."
        )
    names = {"id2label": checkpoint.config["id2label"]} if "id2label" in checkpoint.config else {}
    return names | {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "max_position_embeddings": _matrix(shapes, "embedding.position_embedding.weight")[0],
        "type_vocab_size": _matrix(shapes, "embedding.segment_embedding.weight")[0],
    }


def _matrix(shapes: Shapes, name: str) -> tuple[int, int]:
    if len(shape := shapes.get(name, ())) != 2:
        raise CheckpointError(f"The checkpoint has no matrix {name}; it is incomplete.")
    return shape[0], shape[1]


def _pooling(checkpoint: Checkpoint) -> Pooling:
    pooling: Any = checkpoint.config.get("pooling", "first")
    if pooling == "mean":
        raise CheckpointError(
            f"{checkpoint.name} has pooling mean, which FastBERT's own code takes over the wrong "
            "axis, so that only rows of 128 tokens run; train with pooling first or max."
        )
    if pooling not in ("first", "last", "max"):
        raise CheckpointError(
            f"{checkpoint.name}: config.json has pooling {pooling!r:.40}; FastBERT knows first, "
            "last and max."
        )
    return pooling


FORMAT = Format(
    name="fastbert",
    paper=PAPER,
    detect=detect,
    load=load,
    policies=("entropy-fastbert", "entropy-categorical"),
)
