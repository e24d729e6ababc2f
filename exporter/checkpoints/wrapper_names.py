"""Names that training tools put around a model, and so into the names of its tensors.

DataParallel, torch.compile, FSDP, activation checkpointing and DeepSpeed wrap a model or parts of
it. A training loop that keeps the model in an attribute puts that attribute in front of all names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from effbert.exporter.checkpoints.tensors import two_for_one

# No model calls a part of its own so.
WRAPPERS = frozenset(
    (
        "module",
        "_orig_mod",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "_forward_module",
    )
)


def unwrapped_names(names: Iterable[str], root: str = "") -> dict[str, str]:
    """Map the names of a file to those of the model, without wrappers and without `root`.

    Raises:
        CheckpointError: Two tensors get the same name.
    """
    found: dict[str, str] = {}
    for name in names:
        parts = [part for part in name.split(".") if part not in WRAPPERS]
        plain = ".".join(parts).removeprefix(root)
        if plain in found:
            raise two_for_one(found[plain], name, plain)
        found[plain] = name
    return {stored: plain for plain, stored in found.items()}


def common_root(names: Mapping[str, object]) -> str:
    """Return the first part of the names, with its dot, if all of them share it; else nothing."""
    roots = {name.split(".", 1)[0] if "." in name else "" for name in names}
    return f"{roots.pop()}." if len(roots) == 1 and "" not in roots else ""
