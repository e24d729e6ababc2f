"""Recognise the format of a checkpoint, also where a training loop prefixed all names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from effbert.exporter.checkpoints.checkpoint import Checkpoint
from effbert.exporter.checkpoints.wrapper_names import common_root
from effbert.exporter.formats import FORMATS, choose_format
from effbert.exporter.formats.format import Format

BERXIT = "core."  # its own name for an encoder, and no wrapper's


def recognise(name: str, opened: Checkpoint) -> tuple[Checkpoint, Format]:
    """Find the format of a checkpoint, and the checkpoint by the names that this format knows.

    A prefix that all names share is dropped where some format then fits, and none did before.

    Args:
        name: `auto`, or the name of a format.
        opened: The checkpoint by its own names.

    Raises:
        ExportError: There is no format of that name.
        CheckpointError: No format fits, or the named one does not.
    """
    found = next((each for each in _by_shorter_names(opened) if _fits(each)), opened)
    return found, choose_format(name, found.name, found.shapes, found.config)


def _by_shorter_names(opened: Checkpoint) -> Iterator[Checkpoint]:
    yield opened
    while (root := common_root(opened.shapes)) and root != BERXIT:
        opened = replace(opened, root=opened.root + root)
        yield opened


def _fits(opened: Checkpoint) -> bool:
    """Tell whether a format recognises the names, or some start as transformers starts them."""
    shapes, config = opened.shapes, opened.config
    if any(each.detect(shapes, config) for each in FORMATS if each.name != "plain"):
        return True
    prefix = _base_prefix(config.get("model_type"))
    # Names that all start alike may be those of the bare encoder, which has no head.
    return (
        bool(prefix) and common_root(shapes) != prefix and any(k.startswith(prefix) for k in shapes)
    )


def _base_prefix(model_type: object) -> str:
    import transformers

    if model_type not in transformers.CONFIG_MAPPING:
        return ""
    kind = transformers.MODEL_MAPPING.get(transformers.CONFIG_MAPPING[model_type], None)
    prefix = getattr(kind, "base_model_prefix", "")
    return f"{prefix}." if prefix else ""
