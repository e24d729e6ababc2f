"""Read the config of a BERT off its tensors, for checkpoints that come without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint

HEAD_SIZE = 64  # of every BERT that Google published


def measured_bert(checkpoint: Checkpoint, prefix: str, layers: int) -> dict[str, Any]:
    """Measure the original BERT whose tensors start with `prefix`.

    Only the number of attention heads leaves no trace: it is `num_attention_heads` in config.json,
    else as many as heads of 64 make up the hidden size. Activation (gelu) and epsilon (1e-12) are
    those of the original.

    Returns:
        The fields of transformers' BertConfig.

    Raises:
        CheckpointError: Tensors are missing, or the number of heads does not fit.
    """

    def shape(name: str) -> tuple[int, ...]:
        found = checkpoint.shapes.get(f"{prefix}{name}.weight", ())
        if len(found) != 2:
            raise CheckpointError(
                f"{checkpoint.name} has no matrix {prefix}{name}.weight; it is incomplete."
            )
        return found

    vocabulary, hidden = shape("embeddings.word_embeddings")
    heads = checkpoint.config.get("num_attention_heads", hidden / HEAD_SIZE)
    if not isinstance(heads, int | float) or heads < 1 or heads % 1 or hidden % heads:
        raise CheckpointError(
            f"{checkpoint.name}: {heads!r:.40} attention heads do not fit a hidden size of "
            f"{hidden}; set num_attention_heads at the top of config.json."
        )
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": int(heads),
        "intermediate_size": shape("encoder.layer.0.intermediate.dense")[0],
        "max_position_embeddings": shape("embeddings.position_embeddings")[0],
        "type_vocab_size": shape("embeddings.token_type_embeddings")[0],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
