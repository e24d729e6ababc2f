"""Heads and neurons whose weights are all zero are left out, and their constants join the biases.

Block pruning (nn_pruning; Lagunas et al., EMNLP 2021) leaves such blocks in matrices of full size.
A head without values answers the same for every token, a neuron without inputs too; what nothing
reads needs no computing. Single zeros save nothing: they are stored and multiplied like others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effbert.exporter.encoders.sizes import FAMILIES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from effbert.exporter.models.exit_model import ExitModel

WORTH_SAYING = 0.3  # share of zeros
SHARE = 100


def drop_zero_blocks(model: ExitModel) -> tuple[str, ...]:
    """Narrow the layers of a BERT-like model with one exit, in place.

    Answers stay the same but for rounding. A layer keeps one head and one neuron at least.

    Returns:
        Sentences for the user: what was left out, and what zeros are left in vain.
    """
    from effbert.exporter.encoders.width import Width, narrow_layers
    from effbert.exporter.models.single_exit import SingleExitModel

    if not isinstance(model, SingleExitModel) or model.description.architecture not in FAMILIES:
        return ()
    task_model: Any = model.model
    encoder = task_model.base_model.encoder
    if not hasattr(encoder.layer[0].attention.self, "all_head_size"):
        return ()  # attention of a format's own
    size = encoder.layer[0].attention.self.attention_head_size
    plans = [(_rows_of(_heads(layer, size), size), _neurons(layer)) for layer in encoder.layer]
    gone = [
        (layer.attention.self.all_head_size - len(rows), layer.output.dense.in_features - len(kept))
        for layer, (rows, kept) in zip(encoder.layer, plans, strict=True)
    ]
    heads, neurons = (sum(each) for each in zip(*gone, strict=True))
    notes = []
    if heads or neurons:
        filled = [_narrowed(layer, *plan) for layer, plan in zip(encoder.layer, plans, strict=True)]
        widths = [Width(len(rows), len(kept)) for rows, kept in plans]
        narrow_layers(encoder, widths, size)
        for layer, tensors in zip(encoder.layer, filled, strict=True):
            layer.load_state_dict(tensors, strict=False)
        encoder.eval()
        notes.append(
            f"Left out: {heads // size} heads and {neurons} neurons whose weights are all zero; "
            "what their biases contributed was added to others."
        )
    return (*notes, *_zeros_left(encoder))


def _heads(layer: Any, size: int) -> list[int]:
    """Find the heads that make a difference, by index; the first if none does."""
    attention = layer.attention.self
    values = attention.value.weight.unflatten(0, (-1, size)).flatten(1)
    read = layer.attention.output.dense.weight.unflatten(1, (-1, size)).transpose(0, 1).flatten(1)
    return _of_use(values, read)


def _neurons(layer: Any) -> list[int]:
    return _of_use(layer.intermediate.dense.weight, layer.output.dense.weight.T)


def _of_use(made: Tensor, read: Tensor) -> list[int]:
    useful = made.any(dim=1) & read.any(dim=1)
    found: list[int] = useful.nonzero().flatten().tolist()
    return found or [0]


def _rows_of(heads: list[int], size: int) -> list[int]:
    return [head * size + row for head in heads for row in range(size)]


def _narrowed(layer: Any, rows: list[int], kept: list[int]) -> dict[str, Tensor]:
    """Tensors of the narrow layer; those of constant parts are in its biases."""
    attention, inner = layer.attention.self, layer.intermediate
    constant = inner.intermediate_act_fn(inner.dense.bias.double())
    output, mixed = layer.output.dense, layer.attention.output.dense
    tensors = {}
    for name in ("query", "key", "value"):
        linear = getattr(attention, name)
        tensors[f"attention.self.{name}.weight"] = linear.weight[rows]
        tensors[f"attention.self.{name}.bias"] = linear.bias[rows]
    tensors["attention.output.dense.weight"] = mixed.weight[:, rows]
    tensors["attention.output.dense.bias"] = _with_constants(
        mixed, attention.value.bias.double(), rows
    )
    tensors["intermediate.dense.weight"] = inner.dense.weight[kept]
    tensors["intermediate.dense.bias"] = inner.dense.bias[kept]
    tensors["output.dense.weight"] = output.weight[:, kept]
    tensors["output.dense.bias"] = _with_constants(output, constant, kept)
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _with_constants(linear: nn.Linear, inputs: Tensor, kept: list[int]) -> Tensor:
    """Bias of a product of which some inputs are constants, float32."""
    import torch

    gone = torch.ones(linear.in_features, dtype=torch.bool)
    gone[kept] = False
    return (linear.bias.double() + linear.weight.double()[:, gone] @ inputs[gone]).float()


def _zeros_left(encoder: Any) -> tuple[str, ...]:
    from torch import nn

    weights = [part.weight for part in encoder.modules() if isinstance(part, nn.Linear)]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    share = zeros / max(1, sum(weight.numel() for weight in weights))
    if share < WORTH_SAYING:
        return ()
    return (
        (
            f"{SHARE * share:.0f} % of the encoder's weights are zero; single zeros are stored and "
            "multiplied like other numbers, so they save neither time nor space: only heads and "
            "neurons that are zero as a whole do."
        ),
    )
