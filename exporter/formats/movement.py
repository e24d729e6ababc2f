"""Movement pruning (Sanh et al., NeurIPS 2020) and its relatives: scores become masks.

A training checkpoint holds full weights and scores; masks are computed from the scores and a
threshold that is not stored. Where the authors' bertarize.py has applied them, the weights have
zeros, and config.json may still say `masked_bert`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.checkpoints.tensors import Tensors
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "Movement Pruning (Sanh et al., NeurIPS 2020), https://arxiv.org/abs/2005.07683"
MODEL_TYPE = "masked_bert"
SCORES = ".mask_scores"
# What is left, of the share of scores or of weights, or compared with the scores.
BY_SHARE, BY_SIZE, BY_VALUE, BY_SIGMOID, SOFT = (
    *("topK", "magnitude", "threshold", "sigmoied_threshold", "l0"),
)
METHODS = (BY_SHARE, BY_SIZE, BY_VALUE, BY_SIGMOID, SOFT)
LEAST = 0.005  # share of the weights that a threshold leaves at least
APPLIED = 0.01  # share of zeros in a matrix whose mask was applied
LOW, HIGH = -0.1, 1.1  # the stretched sigmoid of l0


def detect(shapes: Shapes, config: Config) -> bool:
    """Scores beside the weights, or a config of the authors' class."""
    scored = any(key.endswith(SCORES) for key in shapes)
    return scored or config.get("model_type") == MODEL_TYPE


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build transformers' BERT of the task with the masks applied.

    Raises:
        CheckpointError: The threshold is needed, the method is unknown, or tensors do not fit.
        InputError: The threshold fits no method, or there is nothing to compare it with.
        ExportError: The task or the exits do not exist.
    """
    from effbert.exporter.formats.plain import build

    kind = checkpoint.config.get("architectures") or ["BertForSequenceClassification"]
    config = {
        **checkpoint.config,
        "model_type": "bert",
        "architectures": [str(name).removeprefix("Masked") for name in kind],
    }
    tensors = checkpoint.load_tensors()
    weights = tensors.renamed(lambda name: None if name.endswith(SCORES) else name)
    mask = _chosen_mask(checkpoint, options.mask_threshold, weights)
    if mask is not None:
        weights = weights.changed(lambda name, tensor: mask(name, tensor, tensors))
    return build(checkpoint, options, name="movement", paper=PAPER, config=config, tensors=weights)


def _chosen_mask(
    checkpoint: Checkpoint, threshold: float | None, weights: Tensors
) -> Callable[[str, Tensor, Tensors], Tensor] | None:
    """Return what masks a weight, given its name and all tensors; None if that was done."""
    method = checkpoint.config.get("pruning_method", BY_SHARE)
    if method not in METHODS:
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: pruning_method is {method!r:.40}, expected one "
            f"of {', '.join(METHODS)}."
        )
    scored = any(key.endswith(SCORES) for key in checkpoint.shapes)
    if not scored and (method != BY_SIZE or _has_zeros(weights)):
        if threshold is not None:
            raise InputError(
                f"{checkpoint.name} holds no scores, its masks were applied already; leave "
                "--mask-threshold out."
            )
        return None
    if threshold is None and method != SOFT:
        raise CheckpointError(
            f"{checkpoint.name} was pruned by {method} and does not store the threshold that turns "
            "scores into masks; give the final_threshold of the training: --mask-threshold "
            f"{'0.15 keeps 15 % of the weights' if method in (BY_SHARE, BY_SIZE) else '0.1'}."
        )
    if threshold is not None and method in (BY_SHARE, BY_SIZE) and not 0 < threshold <= 1:
        raise InputError(
            f"--mask-threshold: {method} keeps a share of the weights, above 0 and up to 1; got "
            f"{threshold:g}."
        )

    def masked(name: str, tensor: Tensor, tensors: Tensors) -> Tensor:
        if not _prunable(name):
            return tensor
        scores = tensor.abs() if method == BY_SIZE else tensors[name.replace(".weight", SCORES)]
        return tensor * make_mask(method, scores.float(), threshold or 0.0)

    return masked


def _prunable(name: str) -> bool:
    return ".encoder.layer." in name and name.endswith(".weight") and "LayerNorm" not in name


def _has_zeros(weights: Tensors) -> bool:
    name = next(filter(_prunable, weights), None)
    return name is not None and bool((weights[name] == 0).float().mean() > APPLIED)


def make_mask(method: str, scores: Tensor, threshold: float) -> Tensor:
    """Compute the mask of one matrix, as the authors' binarizers do.

    Args:
        method: One of `METHODS`.
        scores: float32, of the shape of the weights; for `magnitude` their absolute values.
        threshold: The share that is kept, or what scores or their sigmoids must exceed.

    Returns:
        What the weights are multiplied by: zeros and ones, for `l0` also numbers between.
    """
    import torch

    if method == SOFT:
        return (torch.sigmoid(scores) * (HIGH - LOW) + LOW).clamp(0, 1)
    flat = scores.flatten()
    if method in (BY_SHARE, BY_SIZE):
        order = flat.argsort(descending=True, stable=True)
        mask = torch.zeros_like(flat)
        mask[order[: int(threshold * flat.numel())]] = 1
        return mask.view_as(scores)
    kept = (torch.sigmoid(scores) if method == BY_SIGMOID else scores) > threshold
    least = int(LEAST * flat.numel()) + 1
    if kept.sum() < least:
        kept = scores > flat.kthvalue(max(flat.numel() - least, 1)).values
    return kept.float()


FORMAT = Format(
    name="movement", paper=PAPER, detect=detect, load=load, policies=("none",), skips_layers=True
)
