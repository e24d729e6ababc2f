"""BERTs whose layers are narrower than config.json says: pruned heads or neurons, sub-networks.

Heads removed by transformers before version 5 (Michel et al., NeurIPS 2019), heads and neurons by
nn_pruning (Lagunas et al., EMNLP 2021), sub-networks cut out of DynaBERT (Hou et al., NeurIPS 2020)
and AutoTinyBERT (Yin et al., ACL 2021). Shapes decide, not the
config: see `exporter.encoders.width`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.encoders.width import Width
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "layers of different widths; one exit at the end"
PREFIXES = ("bert", "roberta")
FIRST = "encoder.layer.0.attention.self.query.weight"
FAMILIES = (None, "bert", "camembert", "roberta", "xlm-roberta")


def detect(shapes: Shapes, config: Config) -> bool:
    """Layers of another width than the config's, or a config that speaks of pruning."""
    if _prefix(shapes) is None or config.get("model_type") not in FAMILIES:
        return False
    marked = any(config.get(name) for name in ("dyna_hidden_size", "qkv_size", "pruned_heads"))
    expected = config.get("hidden_size"), config.get("intermediate_size")
    told = all(isinstance(number, int) for number in expected)
    differ = told and any(found != expected for found in _stored(shapes))
    return marked or differ or _patched(config)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build transformers' own model of the task with the widths that the tensors have.

    Raises:
        CheckpointError: Pruning changed more than shapes, or the shapes fit no heads.
        ExportError: The task or the exits do not exist.
    """
    from effbert.exporter.encoders.width import Width, narrowed_class
    from effbert.exporter.formats.plain import build

    config, shapes = checkpoint.config, checkpoint.shapes
    _require_bert(checkpoint)
    widths = [Width(*found) for found in _stored(shapes)]
    size = _head_size(checkpoint)
    _require_heads(checkpoint, widths, size)
    # One head, because transformers insists that heads divide the hidden size; theirs need not.
    own = {name: value for name, value in config.items() if name != "pruned_heads"}
    changed = {"model_type": _prefix(shapes), **own, "num_attention_heads": 1}
    return build(
        checkpoint,
        options,
        name="pruned",
        config=changed,
        adapt=lambda kind: narrowed_class(kind, widths, size),
    )


def _prefix(shapes: Shapes) -> str | None:
    return next((p for p in PREFIXES if f"{p}.{FIRST}" in shapes), None)


def _stored(shapes: Shapes) -> Iterator[tuple[int, int]]:
    """Yield what each layer has: rows of its query, and neurons."""
    for index in count():
        layer = f"{_prefix(shapes)}.encoder.layer.{index}"
        query = shapes.get(f"{layer}.attention.self.query.weight", ())
        dense = shapes.get(f"{layer}.intermediate.dense.weight", ())
        if len(query) != 2 or len(dense) != 2:
            return
        yield query[0], dense[0]


def _patched(config: Config) -> bool:
    return config.get("layer_norm_type") == "no_norm" or config.get("gelu_patch") is True


def _require_bert(checkpoint: Checkpoint) -> None:
    """Refuse what pruning changed beyond shapes."""
    if _patched(checkpoint.config):
        raise CheckpointError(
            f"{checkpoint.name} was trained without LayerNorm or with another activation "
            "(layer_norm_type and gelu_patch of nn_pruning), which is no BERT any more; prune "
            "without these two and export that."
        )


def _head_size(checkpoint: Checkpoint) -> int:
    """Rows of one head, which no kind of pruning changes."""
    config = checkpoint.config
    width = config.get("qkv_size") or config.get("dyna_hidden_size") or config.get("hidden_size")
    heads = config.get("num_attention_heads")
    if not isinstance(width, int) or not isinstance(heads, int) or heads < 1 or width % heads:
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: {heads!r:.20} attention heads do not share a "
            f"width of {width!r:.20}; put the model's own config.json beside the weights."
        )
    return width // heads


def _require_heads(checkpoint: Checkpoint, widths: Sequence[Width], size: int) -> None:
    config, name = checkpoint.config, checkpoint.name
    if config.get("num_hidden_layers", len(widths)) != len(widths):
        raise CheckpointError(
            f"{name} holds {len(widths)} layers, but config.json says "
            f"{config['num_hidden_layers']!r:.20}; it is incomplete, or config.json is not its own."
        )
    gone = config.get("pruned_heads") or {}
    for index, width in enumerate(widths):
        if width.neurons < 1 or width.attention < 1 or width.attention % size:
            raise CheckpointError(
                f"{name}: layer {index + 1} has {width.attention} rows of attention and "
                f"{width.neurons} neurons, expected whole heads of {size} and at least one of "
                "each; config.json may not be its own."
            )
        pruned = gone.get(str(index), []) if isinstance(gone, dict) else None
        if not isinstance(pruned, list):
            raise CheckpointError(
                f"{checkpoint.folder / 'config.json'}: pruned_heads must map layers to lists of "
                "heads."
            )
        if gone and len(pruned) + width.attention // size != config["num_attention_heads"]:
            raise CheckpointError(
                f"{name}: layer {index + 1} has {width.attention // size} heads, but config.json "
                f"says that {len(pruned)} of {config['num_attention_heads']} were pruned; "
                "config.json is not its own."
            )


FORMAT = Format(
    name="pruned", paper=PAPER, detect=detect, load=load, policies=("none",), skips_layers=True
)
