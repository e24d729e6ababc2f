"""Give a loaded model the knob `lengths`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch

from effbert.exporter.encoders.depth import of_kept
from effbert.exporter.encoders.layer_parts import layer_parts
from effbert.exporter.encoders.length_drop import DropRule, LengthDropEncoder, lengths_knob
from effbert.exporter.models.exit_model import ExitModel, MultiExitModel
from effbert.exporter.models.single_exit import SingleExitModel
from effbert.exporter.trace import example_inputs, knob_values, never_knobs
from effbert.runtime.bundle.manifest import Limits
from effbert.runtime.errors import ExportError, InputError

KEEP = ("auto", "yes", "no")
TRIALS = ((0.7, 0.5), (0.9, 0.1))  # shares of the first and the last layer


@dataclass(frozen=True)
class LengthOptions:
    """How the user wants tokens dropped.

    Attributes:
        keep_cls: Whether the first token always stays; `auto` is yes, and no for question
            answering, as the Length-Adaptive Transformer does.
        retention: PoWER-BERT's counts, one a layer, which become the default; its rule leaves
            attention of a token to itself out.
        pad_to: Tokens of every row, padding included, which then takes part as in the papers' code;
            None leaves it out.
    """

    keep_cls: str = "auto"
    retention: tuple[int, ...] | None = None
    pad_to: int | None = None


def make_length_adaptive(model: ExitModel, options: LengthOptions) -> ExitModel:
    """Let the model's encoder drop tokens between attention and feed-forward of each layer.

    Raises:
        ExportError: The model's layers are not BERT's, or it decides about tokens itself.
        InputError: An option does not fit.
    """
    if options.keep_cls not in KEEP:
        raise InputError(f"--keep-cls: got {options.keep_cls}, expected {', '.join(KEEP)}.")
    described = model.description
    by_token = described.task != "text-classification"
    keeps = described.task != "question-answering"
    if options.keep_cls != "auto":
        keeps = options.keep_cls == "yes"
    rule = DropRule(
        keep_first=keeps,
        ignore_self=options.retention is not None,
        restore=by_token or not keeps,
        pad_to=options.pad_to,
    )
    limits = _limited(described.limits, options.pad_to)
    dropping = _replace_encoder(model, rule)
    depth = len(dropping.parts.layers(dropping.encoder))
    dropping.depth = layers = min(depth, described.layers[-1])
    skipped = (*described.skipped, *range(layers + 1, depth + 1))  # no exit reads those
    knob = lengths_knob(layers)
    defaults = dict(described.defaults)
    if options.retention is not None:
        counts = of_kept(options.retention, layers, skipped)
        if len(counts) != layers:
            raise InputError(f"--retention: got {len(counts)} counts for {layers} encoder layers.")
        defaults["lengths"] = counts
    model.description = replace(
        described,
        limits=limits,
        padded_to=options.pad_to,
        skipped=skipped,
        knobs=(*described.knobs, knob),
        defaults=defaults,
        trials=tuple({"lengths": _falling(first, last, layers)} for first, last in TRIALS),
    )
    if not rule.restore:
        dropping.last_drops = _last_drop_shows(model, dropping)
    return model


def _replace_encoder(model: ExitModel, rule: DropRule) -> LengthDropEncoder:
    """Replace the model's own encoder by a dropping one."""
    if isinstance(model, MultiExitModel) and hasattr(model.backbone, "config"):
        encoder: Any = model.backbone
        model.backbone = dropping = LengthDropEncoder(encoder, layer_parts(encoder.config), rule)
    elif isinstance(model, SingleExitModel):
        name = str(model.model.base_model_prefix)
        encoder = getattr(model.model, name)
        dropping = LengthDropEncoder(encoder, layer_parts(encoder.config), rule)
        setattr(model.model, name, dropping)
    else:
        raise ExportError(
            f"A {model.description.format} checkpoint cannot drop tokens: it has an encoder of its "
            "own; leave --length-adaptive out."
        )
    model.mask = "binary"
    return dropping


@torch.no_grad()
def _last_drop_shows(model: ExitModel, dropping: LengthDropEncoder) -> bool:
    """Try whether an answer depends on what the last layer drops.

    It does not where heads read the first token, which stays; then the last layer need not choose.
    """
    knobs = list(never_knobs(model.description).values())
    values = knob_values(model.description, knobs)
    values["lengths"] = torch.tensor(model.description.trials[0]["lengths"])
    answers = []
    for dropping.last_drops in (True, False):
        exits = model(**example_inputs(model), **values)
        answers.append(torch.cat([each.flatten() for _, out in exits for each in out.values()]))
    dropped, whole = answers
    return not torch.allclose(dropped, whole, rtol=1e-3, atol=1e-5, equal_nan=True)


def _limited(limits: Limits, pad_to: int | None) -> Limits:
    """Tell what rows may have if all are padded to this many tokens."""
    if pad_to is None:
        return limits
    if not limits.min_length <= pad_to <= limits.max_length:
        raise InputError(
            f"--pad-to: got {pad_to}, expected {limits.min_length} to {limits.max_length} tokens, "
            "which is what this model takes."
        )
    return msgspec.structs.replace(limits, max_length=pad_to)


def _falling(first: float, last: float, layers: int) -> list[float]:
    step = (first - last) / max(1, layers - 1)
    return [round(first - step * layer, 3) for layer in range(layers)]
