"""ELBERT: Fast ALBERT with Confidence-Window Based Early Exit (Xie et al., ICASSP 2021).

The exits' structure and the rule are entries of config.json. Heads that read the mean or maximum of
all tokens read padding too, so their rows are run at their own length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.bundle.manifest import Knob, to_float
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.checkpoints.tensors import Tensors
    from effbert.exporter.heads.summary import SummaryHead
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "ELBERT (Xie et al., ICASSP 2021), https://arxiv.org/abs/2107.00175"
HEAD = "albert.encoder.exit_out_layer"
RULES = {
    rule: f"elbert-{rule.replace('_', '-')}"
    for rule in ("entropy", "bias_1", "bias_2", "bias_3", "logits")
}
FIELDS = {"threshold": "exit_thres", "window": "cnt_thres", "range": "range_tmp"}
NO_RULE = "config.json has no thres_name, so no row exits early; give the rule with --policy: "
INPUTS = ("cls", "mean", "max", "cls-mean", "cls-max", "mean-max")


def detect(shapes: Shapes, config: Config) -> bool:
    """Exit layers inside the encoder of an ALBERT."""
    return any(key.startswith(HEAD) for key in shapes)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the encoder, its exits and the rule that config.json names.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape, or an entry of config.json
            makes no sense.
        ExportError: The task or the exits asked for do not exist.
    """
    from effbert.exporter.encoders.labels import config_problem
    from effbert.exporter.encoders.load import describe_classifier, load_backbone
    from effbert.exporter.heads.pooled import PooledHeads
    from effbert.exporter.models.exit_model import MultiExitModel
    from effbert.exporter.policies import POLICIES

    options.require_task("text-classification", "ELBERT's exits classify texts")
    tensors = checkpoint.load_tensors()
    backbone = load_backbone(checkpoint, tensors, "albert")
    config = backbone.config
    depth = config.num_hidden_layers
    groups = int(_number(checkpoint, "num_exit_layers", 1, depth))
    if depth % groups:
        raise CheckpointError(
            f"{checkpoint.name} has {depth} layers, no multiple of its {groups} exit heads "
            "(num_exit_layers): its last layers have no head, and the authors' code fails there."
        )
    heads = _heads(checkpoint, tensors, config.hidden_size, groups)
    classes = heads[0].classes
    layers = options.choose_layers(tuple(range(1, depth + 1)))
    meaning = config_problem(config, classes)
    rule = str(checkpoint.config.get("thres_name"))
    policy = RULES.get(rule, "none") if meaning == "single-label" else "none"
    knobs = POLICIES[policy].knobs if options.policy in ("auto", policy) else ()
    defaults, notes = _defaults(checkpoint, knobs)
    if meaning == "single-label" and options.policy == "auto" and rule == "None":
        notes = (f"{NO_RULE}{', '.join(RULES.values())}.",)
    description = describe_classifier(
        "elbert",
        PAPER,
        config,
        classes,
        layers,
        {"single-label": policy},
        padding_free=checkpoint.config.get("pooler_input", "cls") == "cls",
        defaults=defaults,
        notes=notes,
    )
    exits = PooledHeads(layers, [heads[(layer - 1) // (depth // groups)] for layer in layers])
    return MultiExitModel(backbone, exits, description, inner=config.inner_group_num)


def _heads(checkpoint: Checkpoint, tensors: Tensors, hidden: int, groups: int) -> list[SummaryHead]:
    """Build the heads of the structure that config.json describes."""
    from effbert.exporter.heads.linear import load_linear
    from effbert.exporter.heads.summary import summary_head

    kind = checkpoint.config.get("pooler_input", "cls")
    if kind not in INPUTS:
        known = ", ".join(INPUTS)
        raise CheckpointError(
            f"{checkpoint.name}: config.json has pooler_input {kind!r:.40}, expected {known}."
        )
    shared = bool(checkpoint.config.get("use_out_pooler"))
    if not shared:
        checkpoint.account.leave_out(
            r"albert\.pooler\.(weight|bias)", "the plain model's pooler, which no exit reads"
        )
    heads: list[SummaryHead] = []
    for name in [HEAD] if groups == 1 else [f"{HEAD}s.{group}" for group in range(groups)]:
        head = summary_head(
            tensors,
            load_linear(tensors, "albert.pooler" if shared else f"{name}.pooler", hidden),
            name,
            summaries=kind.split("-"),
            deep=bool(checkpoint.config.get("use_fc2")),
            classes=heads[0].classes if heads else None,
        )
        heads.append(head)
    return heads


def _defaults(
    checkpoint: Checkpoint, knobs: tuple[Knob, ...]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Read the knobs' defaults from config.json; a note for each that it lacks."""
    given: dict[str, float] = {}
    notes = []
    for knob in knobs:
        field = FIELDS.get(knob.name, knob.name)
        low, high = to_float(knob.minimum), to_float(knob.maximum)
        if checkpoint.config.get(field) is None:
            notes.append(
                f"config.json has no {field}, so the knob {knob.name} starts at {knob.default}: "
                f"give it with --knob {knob.name}=VALUE."
            )
        elif knob.name == "window":  # beyond any number of exits, it is never reached
            given[knob.name] = min(int(_number(checkpoint, field, low, float("inf"))), int(high))
        else:
            given[knob.name] = _number(checkpoint, field, low, high)
    return given, tuple(notes)


def _number(checkpoint: Checkpoint, field: str, low: float, high: float) -> float:
    value = checkpoint.config.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise CheckpointError(
            f"{checkpoint.name}: config.json has {field} {value!r:.40}, expected a number from "
            f"{low:g} to {high:g}."
        )
    return value


FORMAT = Format("elbert", PAPER, detect, load, policies=tuple(RULES.values()))
