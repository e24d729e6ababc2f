"""Every tensor of a checkpoint is read, left out for a known reason, or named in an error."""

from __future__ import annotations

import re
from collections.abc import Iterable

from effbert.exporter.checkpoints.checkpoint import Checkpoint
from effbert.exporter.checkpoints.tensors import Account
from effbert.runtime.errors import CheckpointError

NAMED = 3  # tensors in a message
# What classes of transformers leave behind that never answers, whatever the format.
PRETRAINING = (
    r"(?P<part>cls\.(predictions|seq_relationship)|lm_head|lm_loss|lm_predictions|predictions|"
    r"mask_predictions|sop_classifier|generator_predictions|generator_lm_head|"
    r"discriminator_predictions|vocab_transform|vocab_layer_norm|vocab_projector)\..+"
)
USUAL = {
    PRETRAINING: "the head of the pre-training",
    r"(.*\.)?(position_ids|token_type_ids|inv_freq)": "constants, which the graph computes itself",
    r"fit_denses?\..+": "the layers that fitted the teacher's width in training",
    r"(teacher|teacher_model)\..+": "the teacher of the training",
    r"(loss|loss_fct|loss_fn|criterion)(\..+)?": "the loss of the training",
}
# What other tensors are, where their names tell, and the way out.
KINDS = {
    r"distance_embedding|rel_\w+|relative_\w+|position_bias": (
        "relative positions",
        "retrain with absolute positions",
    ),
    r"prefix_encoder|prompt_encoder|prompt_embeddings|soft_prompt|prefix_embed\w*": (
        "a prefix or prompt",
        "such tokens cannot be merged into the weights: fine-tune without them, or with LoRA",
    ),
    r"loras?|lora_\w+": (
        "LoRA",
        "merge it where the model was trained, save that, and export it",
    ),
    r"ia3_\w+|(\w+_)?adapters?(_\w+)?|shared_parameters": (
        "an adapter",
        "such layers cannot be merged into the weights: fine-tune without them, or with LoRA",
    ),
    r"\w*quantizer|weight_fake_quant|activation_post_process|_?amax|absmax|quant_\w+|"
    r"weight_scale|weight_zero_point|qweight|qzeros|SCB|_packed_params|\w*clip_val": (
        "quantization",
        "export the weights from before quantization",
    ),
    r"mask_scores": ("scores of pruning", "apply the masks first"),
    r"crf": ("a CRF", "train without it"),
}
OTHERWISE = (
    "; delete them from the file if only the training needed them; if answers need them, effbert "
    "does not know this model"
)


def settle(checkpoint: Checkpoint, family: str) -> tuple[str, ...]:
    """Say what was left out, once a model of the format `family` was made of a checkpoint.

    Raises:
        CheckpointError: A tensor was not read and nothing says why.
    """
    left: dict[str, list[str]] = {}
    for name in checkpoint.shapes:
        if name not in checkpoint.account.read:
            left.setdefault(_reason(name, checkpoint.account), []).append(name)
    if unknown := left.pop("", None):
        raise CheckpointError(
            f"{checkpoint.name} holds {_count(unknown)} that a {family} checkpoint has no place "
            f"for ({some_names(unknown)}){explain(unknown) or OTHERWISE}."
        )
    notes = [
        f"Left out: {_count(names)} ({some_names(names)}): {what}." for what, names in left.items()
    ]
    return (*checkpoint.account.notes, *notes)


def leave_out_deeper(checkpoint: Checkpoint, prefix: str, depth: int, what: str) -> None:
    """Leave out tensors `prefix` + number of a layer from `depth` on, counted from 0."""
    layer = re.compile(re.escape(prefix) + r"(\d{1,9})\..+")
    found = {int(match[1]) for match in filter(None, map(layer.fullmatch, checkpoint.shapes))}
    for number in sorted(found):
        if number >= depth:
            checkpoint.account.leave_out(re.escape(f"{prefix}{number}.") + ".+", what)


def without_reason(names: Iterable[str], account: Account) -> list[str]:
    """Find tensors among those not read that nothing is known about."""
    return [name for name in names if not _reason(name, account)]


def explain(names: Iterable[str]) -> str:
    """Say what tensors that have no place in a model are, and the way out; nothing if unknown."""
    parts = [part for name in names for part in name.split(".")]
    for pattern, (kind, way_out) in KINDS.items():
        if any(re.fullmatch(pattern, part) for part in parts):
            return f", which look like {kind}; {way_out}"
    return ""


def some_names(names: Iterable[str]) -> str:
    """List the first names."""
    listed = [*names]
    return ", ".join(listed[:NAMED]) + (", ..." if len(listed) > NAMED else "")


def _count(names: list[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _reason(name: str, account: Account) -> str:
    """Say why a tensor that was not read is left out; nothing if there is no reason.

    A `part` that a pattern names is no reason where the model reads other tensors of that part.
    """
    usual = ((re.compile(pattern), what) for pattern, what in USUAL.items())
    for pattern, what in (*account.reasons, *usual):
        if match := pattern.fullmatch(name):
            part = match.groupdict().get("part")
            if part is None or not any(other.startswith(f"{part}.") for other in account.read):
                return what
    return ""
