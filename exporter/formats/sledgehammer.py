"""The Right Tool for the Job: Matching Model and Instance Complexities (Schwartz et al., ACL 2020).

Checkpoints are allennlp's folders: config.json tells how the model was trained, not what it is made
of, so the encoder, cut off behind the deepest exit, is measured from its tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError

if TYPE_CHECKING:
    import torch

    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.checkpoints.tensors import Tensors
    from effbert.exporter.models.exit_model import ExitModel

PAPER = (
    "The Right Tool for the Job (Schwartz et al., ACL 2020), "
    "https://aclanthology.org/2020.acl-main.593"
)
SUMS, CLASSIFIERS, BERT = "_sum_weights.", "_classification_layers.", "bert_model."
COMPUTED = {"hidden_act": "gelu", "layer_norm_eps": 1e-12}
MAX_LABEL_BYTES, MAX_LABEL_LENGTH = 1 << 20, 1 << 10
UNCALIBRATED = (
    "The checkpoint does not hold the temperatures that the authors fit after training, and each "
    "is 1 unless given: --knob temperature=1.3,1.1,... (one an exit), fitted on labelled data."
)


def detect(shapes: Shapes, config: Config) -> bool:
    """Weights of the sums, and classifiers behind them."""
    return f"{SUMS}0" in shapes and f"{CLASSIFIERS}0.weight" in shapes


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the encoder, the weighted sums and their classifiers.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape, or an entry of config.json
            makes no sense.
        ExportError: The task or the exits asked for do not exist.
    """
    from effbert.exporter.checkpoints.leftovers import leave_out_deeper
    from effbert.exporter.checkpoints.measured_config import measured_bert
    from effbert.exporter.encoders.honoured import require_honoured, require_values
    from effbert.exporter.encoders.load import config_limits, load_backbone
    from effbert.exporter.heads.linear import load_linear
    from effbert.exporter.heads.weighted_sums import WeightedSumHeads
    from effbert.exporter.models.exit_model import Description, MultiExitModel
    from effbert.exporter.policies.comparisons import TEMPERATURE

    options.require_task("text-classification", "these classifiers read whole texts")
    require_honoured(checkpoint.folder / "config.json", checkpoint.config, "bert")
    require_values(checkpoint.folder / "config.json", checkpoint.config, COMPUTED)
    tensors = checkpoint.load_tensors()
    weights = _sum_weights(tensors)
    available = tuple(len(weight) for weight in weights)
    layers = options.choose_layers(available)
    kept = [available.index(layer) for layer in layers]
    renamed = tensors.renamed(
        lambda name: f"bert.{name.removeprefix(BERT)}" if name.startswith(BERT) else None
    )
    config = measured_bert(checkpoint, BERT, available[-1])
    stack = f"{BERT}encoder.layer."
    leave_out_deeper(checkpoint, stack, available[-1], "layers behind the deepest exit")
    backbone = load_backbone(checkpoint, renamed, "bert", config)
    hidden = config["hidden_size"]
    classes = checkpoint.shapes[f"{CLASSIFIERS}0.weight"][0]
    second = checkpoint.shapes.get(f"{CLASSIFIERS}1.weight")
    chained = second is not None and second[-1] == hidden + classes
    if chained and kept != list(range(len(kept))):
        raise ExportError(
            "Every classifier of this checkpoint reads the answers of the exits before it "
            f"(add_previous_layer_logits); --exits may leave out the deepest of {available} only."
        )
    classifiers = [
        load_linear(tensors, f"{CLASSIFIERS}{k}", hidden + k * classes * chained, classes)
        for k in range(len(weights))
    ]
    temperatures = _temperatures(checkpoint, len(weights))
    description = Description(
        format="sledgehammer",
        architecture="bert",
        paper=PAPER,
        task="text-classification",
        problem="single-label",
        labels=_labels(checkpoint, classes),
        layers=layers,
        limits=config_limits(backbone.config),
        policy="confidence",
        knobs=(TEMPERATURE,),
        defaults={"temperature": [temperatures[k] for k in kept]},
        notes=(UNCALIBRATED,) if set(temperatures) == {1.0} else (),
    )
    pooler = load_linear(tensors, f"{BERT}pooler.dense", hidden, hidden)
    sums = [weights[k] for k in kept]
    chosen = [classifiers[k] for k in kept]
    heads = WeightedSumHeads(layers, pooler, sums, chosen, chained=chained)
    return MultiExitModel(backbone, heads, description)


def _sum_weights(tensors: Tensors) -> list[torch.Tensor]:
    """Read the weights of each exit's sum; their lengths say which layers have an exit."""
    names = [f"{SUMS}{k}" for k in range(sum(key.startswith(SUMS) for key in tensors))]
    depth = 0
    for name in names:
        if name not in tensors:
            raise CheckpointError(f"The checkpoint has no tensor {name}; it is incomplete.")
        shape = list(tensors[name].shape)
        if len(shape) != 1 or shape[0] <= depth:
            raise CheckpointError(
                f"{name} has shape {shape}, expected one weight a layer, more than the {depth} of "
                "the exit before; the exits must be in order of depth."
            )
        depth = shape[0]
    return [tensors[name] for name in names]


def _temperatures(checkpoint: Checkpoint, exits: int) -> list[float]:
    """Read `scaling_temperature`, numbers joined by underscores; 1 where there is none."""
    model = checkpoint.config.get("model")
    given = model.get("scaling_temperature", 1) if isinstance(model, dict) else 1
    try:
        values = [float(part) for part in str(given).split("_")]
    except ValueError:
        values = []
    if len(values) not in (1, exits) or not all(0 < value < float("inf") for value in values):
        raise CheckpointError(
            f"{checkpoint.name}: config.json has scaling_temperature {given!r:.40}, expected "
            f"{exits} positive numbers joined by _, one an exit."
        )
    return values * (exits // len(values))


def _labels(checkpoint: Checkpoint, classes: int) -> tuple[str, ...]:
    """Name the classes: the lines of vocabulary/labels.txt if it has as many."""
    path = checkpoint.folder / "vocabulary" / "labels.txt"
    names: list[str] = []
    if path.is_file() and path.stat().st_size <= MAX_LABEL_BYTES:
        names = path.read_text("utf-8", errors="replace").split("\n")
        names = names[:-1] if not names[-1] else names
    if len(names) != classes or max(map(len, names)) > MAX_LABEL_LENGTH:
        return tuple(f"LABEL_{index}" for index in range(classes))
    return tuple(names)


FORMAT = Format("sledgehammer", PAPER, detect, load, policies=("confidence",))
