"""`--widths` and `--depths`: one checkpoint cut to several sizes, as DynaBERT is trained to be.

DynaBERT (Hou et al., NeurIPS 2020) stores heads and neurons in the order of their importance, so a
narrower network is the leading block of every matrix. A shallower one skips layers at equal
distances; the pooler follows the last layer that is left.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from effbert.runtime.bundle.manifest import Knob
from effbert.runtime.console.parameters import split_numbers
from effbert.runtime.errors import InputError

if TYPE_CHECKING:
    from effbert.exporter.encoders.width import Width
    from effbert.exporter.models.exit_model import Description, ExitModel
    from effbert.exporter.models.single_exit import SingleExitModel

Sizes = str | Sequence[float]
FAMILIES = ("bert", "camembert", "roberta", "xlm-roberta")
MOST = 64  # variants of a bundle
LINEARS = (
    *(f"attention.self.{name}" for name in ("query", "key", "value")),
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
TRAINED = "dynabert"
HINT = (
    "A DynaBERT answers at other sizes too: --widths 0.25,0.5,0.75,1 --depths 0.5,0.75,1 puts them "
    "into the bundle."
)
CAUTION = (
    "Smaller variants lack heads, neurons or layers; unless the model was trained to lose them "
    "(DynaBERT), expect worse answers."
)


class Variant(NamedTuple):
    """The values of the knobs `width` and `depth` that select a model, and its index."""

    knobs: dict[str, float]
    model: int


def size_notes(described: Description, widths: Sizes | None, depths: Sizes | None) -> list[str]:
    """Say what cutting costs a model that was not trained for it, or what one that was could do."""
    asked = widths is not None or depths is not None
    if asked and described.format != TRAINED:
        return [CAUTION]
    return [HINT] if not asked and described.format == TRAINED else []


def cut_variants(
    model: ExitModel, widths: Sizes | None, depths: Sizes | None
) -> tuple[list[ExitModel], tuple[Variant, ...]]:
    """Cut a model to every combination of widths and depths, the largest first.

    Weights are shared with the model.

    Args:
        model: What a format loaded.
        widths: Shares of each layer's heads and neurons, above 0 and up to 1; None to cut none.
        depths: Shares of the layers.

    Returns:
        The models, and for every combination the index of its model; combinations that come to the
        same share one.

    Raises:
        InputError: A size is no share or leaves nothing, or the model has exits or other layers.
    """
    asked = {
        name: _read_sizes(name, sizes)
        for name, sizes in (("width", widths), ("depth", depths))
        if sizes is not None
    }
    if not asked:
        return [model], (Variant({}, 0),)
    single = _require_layers(model)
    combinations = [
        dict(zip(asked, sizes, strict=True)) for sizes in itertools.product(*asked.values())
    ]
    if len(combinations) > MOST:
        raise InputError(f"{len(combinations)} variants are more than the {MOST} allowed.")
    layers = _encoder(single).layer
    models: list[ExitModel] = []
    indices: dict[Any, int] = {}
    variants = []
    for knobs in combinations:
        kept = layers_at(knobs.get("depth", 1.0), len(layers))
        narrow = tuple(width_at(knobs.get("width", 1.0), *_extents(layer)) for layer in layers)
        if (kept, narrow) not in indices:
            indices[kept, narrow] = len(models)
            models.append(_cut(single, kept, narrow))
        variants.append(Variant(knobs, indices[kept, narrow]))
    return models, tuple(variants)


def selector_knobs(variants: Sequence[Variant]) -> list[Knob]:
    """Declare the knobs that select among the variants."""
    knobs = []
    for name, largest in variants[0].knobs.items():
        choices = sorted({variant.knobs[name] for variant in variants})
        knobs.append(
            Knob(
                name=name,
                dtype="float32",
                minimum=choices[0],
                maximum=largest,
                default=largest,
                never=largest,
                per_exit=False,
                raising="later",
                choices=[*choices],
            )
        )
    return knobs


def layers_at(depth: float, layers: int) -> tuple[int, ...]:
    """Choose the layers, from 1, that are left of so many at a share of the depth."""
    left = round(depth * layers)
    if not left:
        raise InputError(f"Depth {depth} leaves none of {layers} layers.")
    return tuple(math.floor(index / depth) + 1 for index in range(left))


def width_at(width: float, heads: int, head_size: int, neurons: int) -> Width:
    """Count what is left of a layer at a share of its width.

    Neurons follow the share of the heads that are left, which are whole.
    """
    from effbert.exporter.encoders.width import Width

    left = round(heads * width)
    if not left:
        raise InputError(f"Width {width} leaves none of {heads} heads.")
    return Width(left * head_size, max(1, int(left / heads * neurons)))


def _read_sizes(name: str, sizes: Sizes) -> tuple[float, ...]:
    """Return the sizes as numbers, the largest first."""
    try:
        found = {float(size) for size in split_numbers(sizes, float)}
    except (TypeError, ValueError):
        found = set()
    if not found or not all(0 < size <= 1 for size in found):
        raise InputError(
            f"--{name}s are shares above 0 and up to 1, such as 0.5,0.75,1; got {sizes!r:.40}."
        )
    return tuple(sorted(found, reverse=True))


def _require_layers(model: ExitModel) -> SingleExitModel:
    from effbert.exporter.encoders.length_drop import LengthDropEncoder
    from effbert.exporter.models.single_exit import SingleExitModel

    described = model.description
    if not isinstance(model, SingleExitModel):
        raise InputError(
            f"A {described.format} checkpoint has exits, which belong to full layers; leave "
            "--widths and --depths out."
        )
    if any(isinstance(part, LengthDropEncoder) for part in model.modules()):
        raise InputError(
            "A bundle with the knob `lengths` has one size; leave --widths and --depths out, or "
            "--length-adaptive and --retention."
        )
    if described.architecture not in FAMILIES:
        raise InputError(
            f"A {described.architecture} cannot be cut to --widths and --depths; "
            f"{', '.join(FAMILIES)} can."
        )
    return model


def _encoder(model: SingleExitModel) -> Any:
    task_model: Any = model.model
    return task_model.base_model.encoder


def _extents(layer: Any) -> tuple[int, int, int]:
    """Heads, rows of one head and neurons of a layer."""
    attention = layer.attention.self
    return (
        attention.num_attention_heads,
        attention.attention_head_size,
        layer.intermediate.dense.out_features,
    )


def _cut(model: SingleExitModel, kept: Sequence[int], widths: Sequence[Width]) -> ExitModel:
    """Copy a model, but for its weights, with some of its layers and a part of each."""
    from torch import nn

    from effbert.exporter.encoders.depth import keep_layers
    from effbert.exporter.encoders.width import narrow_layers

    cut = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
    encoder = _encoder(cut)
    wide = [{name: layer.get_submodule(name) for name in LINEARS} for layer in encoder.layer]
    narrow_layers(encoder, widths, _extents(encoder.layer[0])[1])
    for layer, full in zip(encoder.layer, wide, strict=True):
        for name, source in full.items():
            part = layer.get_submodule(name)
            rows, columns = part.weight.shape
            part.weight = nn.Parameter(source.weight.detach()[:rows, :columns])
            part.bias = nn.Parameter(source.bias.detach()[:rows])
    keep_layers(cut.model, kept)
    cut.description = replace(model.description, layers=(len(kept),))
    return cut.eval()
