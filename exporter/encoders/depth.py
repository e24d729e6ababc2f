"""`--layers`: run some of the encoder's layers and skip the others.

Layers are numbered from 1. Skipping is how LayerDrop (Fan et al., ICLR 2020) reaches any depth from
one model, and the rules that drop a number of layers are those of Poor Man's BERT (Sajjad et al.,
2020).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from effbert.runtime.console.parameters import split_numbers
from effbert.runtime.errors import InputError

if TYPE_CHECKING:
    import transformers

Layers = str | Sequence[int]
RULES = "top:K, bottom:K, alternate:K or symmetric:K"
LISTS = frozenset(("bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"))


def choose_kept(layers: Layers, depth: int) -> tuple[int, ...]:
    """Resolve the option for an encoder of `depth` layers.

    Args:
        layers: The layers to keep, as numbers or as text such as 1,3,5; or a rule that drops K.
            `top` drops the last layers, `bottom` the first, `symmetric` the middle ones, and
            `alternate` every second one from the last on.
        depth: How many layers the encoder has.

    Returns:
        The layers that stay, from 1, in order.

    Raises:
        InputError: The option is none of these, or does not fit the depth.
    """
    if isinstance(layers, str) and (rule := re.fullmatch(r"([a-z]+):([0-9]{1,9})", layers)):
        return _without(rule[1], int(rule[2]), depth)
    try:
        kept = tuple(int(layer) for layer in split_numbers(layers, int))
    except (TypeError, ValueError):
        kept = ()
    if not kept:
        raise InputError(
            f"Layers are numbers from 1 on, such as 1,3,5, or {RULES}; got {layers!r:.40}."
        )
    if kept[0] < 1 or kept[-1] > depth or list(kept) != sorted(set(kept)):
        raise InputError(
            f"Layers must rise from 1 to at most {depth}, the layers of this encoder, each once; "
            f"got {layers!r:.40}."
        )
    return kept


def _without(rule: str, count: int, depth: int) -> tuple[int, ...]:
    rest = depth - count
    dropped: dict[str, Callable[[], range]] = {
        "top": lambda: range(rest + 1, depth + 1),
        "bottom": lambda: range(1, count + 1),
        "alternate": lambda: range(depth, depth - 2 * count, -2),
        "symmetric": lambda: range(rest // 2 + 1, rest // 2 + count + 1),
    }
    if rule not in dropped:
        raise InputError(f"There is no rule {rule} for layers; choose {RULES}.")
    most = (depth + 1) // 2 if rule == "alternate" else depth
    if not 1 <= count <= min(most, depth - 1):
        raise InputError(
            f"{rule}:{count} does not fit: of {depth} layers that rule can drop 1 to "
            f"{min(most, depth - 1)}."
        )
    if rule == "symmetric" and rest % 2:
        raise InputError(
            f"symmetric:{count} would keep {rest} of {depth} layers, which cannot be as many at "
            "either end; drop one more or one less."
        )
    out = set(dropped[rule]())
    return tuple(layer for layer in range(1, depth + 1) if layer not in out)


def keep_layers(model: transformers.PreTrainedModel, kept: Sequence[int]) -> None:
    """Leave the encoder of a model with the `kept` layers only, numbered from 1.

    A step of ALBERT keeps the group of layers that serves it at full depth.

    Raises:
        InputError: How a family chains its layers is not known well enough to leave some out.
    """
    from torch import nn

    body = model.base_model
    config = body.config
    if config.model_type in LISTS:
        encoder = body.transformer if config.model_type == "distilbert" else body.encoder
        encoder.layer = nn.ModuleList(encoder.layer[layer - 1] for layer in kept)
    elif config.model_type == "albert":
        groups = body.encoder.albert_layer_groups
        steps = config.num_hidden_layers / len(groups)
        body.encoder.albert_layer_groups = nn.ModuleList(
            groups[int((layer - 1) / steps)] for layer in kept
        )
        config.num_hidden_groups = len(kept)
    else:
        raise InputError(
            f"Layers of a {config.model_type} cannot be left out; those of "
            f"{', '.join(sorted({*LISTS, 'albert'}))} can."
        )
    config.num_hidden_layers = len(kept)


def of_kept(values: Sequence[int], kept: int, skipped: Collection[int]) -> list[int]:
    """Values for so many `kept` layers, or what is left of values for the `skipped` ones too."""
    if len(values) != kept + len(skipped):
        return [*values]
    return [value for layer, value in enumerate(values, 1) if layer not in skipped]


def describe_kept(kept: Sequence[int], depth: int) -> str:
    """Tell the user what was left out, and what that needs."""
    return (
        f"Layers {', '.join(map(str, kept))} of {depth} were kept; unless the model was trained to "
        "lose the others (LayerDrop, or fine-tuning after they were dropped), expect worse answers."
    )
