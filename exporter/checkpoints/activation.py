"""What a checkpoint wants done with its logits: the activation that its files name."""

from __future__ import annotations

from effbert.exporter.checkpoints.checkpoint import MAX_CONFIG_BYTES, Checkpoint
from effbert.exporter.checkpoints.settings_file import read_settings
from effbert.runtime.bundle.manifest import Activation
from effbert.runtime.errors import CheckpointError

SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
NAMES: dict[str, Activation] = {
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "identity": "identity",
    "none": "identity",
}


def named_activation(checkpoint: Checkpoint) -> Activation | None:
    """Read the activation that sentence-transformers or transformers' pipelines would apply.

    Cross-encoders name it in config.json (`sentence_transformers.activation_fn`, before version 4
    `sbert_ce_default_activation_function`) or in config_sentence_transformers.json, by the class of
    torch; pipelines read `function_to_apply`.

    Returns:
        None where no file names one.

    Raises:
        CheckpointError: It is none that a bundle can apply.
    """
    config = checkpoint.config
    beside = read_settings(checkpoint.folder / SENTENCE_TRANSFORMERS, MAX_CONFIG_BYTES)
    nested = config.get("sentence_transformers")
    candidates = (
        ("config.json", nested.get("activation_fn") if isinstance(nested, dict) else None),
        ("config.json", config.get("sbert_ce_default_activation_function")),
        (SENTENCE_TRANSFORMERS, beside.get("activation_fn")),
        ("config.json", config.get("function_to_apply")),
    )
    for file, value in candidates:
        if value is None:
            continue
        name = str(value).rpartition(".")[2].partition("(")[0].lower()
        if name not in NAMES:
            raise CheckpointError(
                f"{checkpoint.folder / file} names the activation {value!r:.60}, which a bundle "
                "cannot apply; choose sigmoid, softmax or identity with --activation."
            )
        return NAMES[name]
    return None
