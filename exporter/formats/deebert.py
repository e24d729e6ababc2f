"""DeeBERT: Dynamic Early Exiting for Accelerating BERT Inference (Xin et al., ACL 2020).

Both published layouts, the authors' own and the port to transformers, for BERT and RoBERTa. Every
layer has a highway (own pooler and classifier); the last layer's untrained highway is consulted
too and answers where its entropy is below the threshold, as in the authors' code, unless the user
turns it off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "DeeBERT (Xin et al., ACL 2020), https://aclanthology.org/2020.acl-main.204"
BACKBONES = ("bert", "roberta")


def detect(shapes: Shapes, config: Config) -> bool:
    """Highways, and none of the marks of BERxiT, which uses the same keys."""
    highways = any(key.startswith(f"{p}.encoder.highway.") for p in BACKBONES for key in shapes)
    berxit = "divide" in config or any(
        "lte_classifier" in k or k.startswith("core.") for k in shapes
    )
    return highways and not berxit


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the encoder with its highways and main head.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape.
        ExportError: The task or the exits asked for do not exist.
    """
    from effbert.exporter.encoders.load import FixedPositions, describe_classifier, load_backbone
    from effbert.exporter.heads.linear import load_linear
    from effbert.exporter.heads.pooled import PooledHead, PooledHeads
    from effbert.exporter.models.exit_model import MultiExitModel

    options.require_task("text-classification", "DeeBERT's highways classify texts")
    tensors = checkpoint.load_tensors()
    prefix = next(p for p in BACKBONES if any(k.startswith(f"{p}.encoder.") for k in tensors))
    backbone = load_backbone(checkpoint, tensors, prefix)
    config = backbone.config
    hidden, depth = config.hidden_size, config.num_hidden_layers
    if f"{prefix}.encoder.highway.{depth}.classifier.weight" in tensors:
        raise CheckpointError(
            f"{checkpoint.name} has more highways than the {depth} layers of config.json."
        )
    final = load_linear(tensors, "classifier", hidden)
    classes = final.out_features

    def head(name: str, classifier: str) -> PooledHead:
        pooler = load_linear(tensors, f"{name}.pooler.dense", hidden, hidden)
        return PooledHead(pooler, load_linear(tensors, classifier, hidden, classes))

    layers = options.choose_layers(tuple(range(1, depth + 1)))
    names = [f"{prefix}.encoder.highway.{index}" for index in range(depth)]
    highways = [head(name, f"{name}.classifier") for name in names]
    main = head(prefix, "classifier")
    ported = _is_ported(checkpoint.config)
    rule = "entropy-exp" if ported else "entropy-naive"
    description = describe_classifier(
        "deebert", PAPER, config, classes, layers, {"single-label": rule}
    )
    return MultiExitModel(
        backbone if ported or prefix == "bert" else FixedPositions(backbone, first=2),
        PooledHeads(
            layers,
            [highways[layer - 1] for layer in layers],
            main if layers[-1] == depth else None,
            overrides=options.last_highway is not False,
        ),
        description,
    )


def _is_ported(config: Config) -> bool:
    """Tell the port to transformers, whose entropy is computed without subtracting the maximum."""
    architectures = config.get("architectures") or []
    return "transformers_version" in config or any(
        str(name).startswith(("DeeBert", "DeeRoberta")) for name in architectures
    )


FORMAT = Format(
    name="deebert",
    paper=PAPER,
    detect=detect,
    load=load,
    policies=("entropy-exp", "entropy-naive"),
    last_highway=True,
)
