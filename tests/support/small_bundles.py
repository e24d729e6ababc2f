"""Small bundles of what engines compile, by name: a checkpoint and the options of its export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checkpoints import write_deebert, write_pabee
from effbert.exporter import export
from effbert.runtime import Bundle
from families import write_family
from systems.cases import CASES
from systems.compressed_checkpoint import write_pruned
from systems.sentee_checkpoint import write_sentee

Arrays = dict[str, np.ndarray]
LAYERS = 3
WIDE = 128  # extents of products below 32 stay in float32
LENGTHS = [24, 30, 12, 21, 9, 5]


class Small(NamedTuple):
    """How a checkpoint is written and exported."""

    write: Callable[[Path], Any]
    options: dict[str, Any]


def _exits(folder: Path) -> Path:
    return write_deebert(folder, layers=LAYERS, tokenizer="fast")


def _wide(folder: Path) -> Path:
    return write_deebert(folder, layers=2, hidden=WIDE, tokenizer="fast")


def _albert(folder: Path) -> Path:
    return write_pabee(
        folder, backbone="albert", layers=LAYERS, hidden=WIDE, labels=3, tokenizer="fast"
    )


def _plain(folder: Path) -> None:
    settings = {"num_hidden_layers": LAYERS, "max_position_embeddings": 64}
    write_family(folder, "bert", "text-classification", **settings)


def _lower(precision: str, **more: Any) -> Small:
    return Small(_wide, {"precision": precision, "min_agreement": 0, **more})


def _full(folder: Path) -> Path:
    return write_pruned(folder, heads=(4,) * 2, neurons=(64,) * 2)


SMALL: dict[str, Small] = {
    "dynabert": Small(_full, {"widths": "0.75,1", "depths": "1,0.5"}),
    "sentee": Small(lambda folder: write_sentee(folder, layers=LAYERS), {}),
    "tokee": Small(
        lambda folder: write_sentee(folder, layers=LAYERS, keep_norm_same=1, seed=2), {}
    ),
    "exits": Small(_exits, {}),
    "exits-22": Small(_exits, {"opset": 22}),
    "albert": Small(_albert, {}),
    "lengths": Small(_exits, {"length_adaptive": True}),
    "lengths-22": Small(_exits, {"length_adaptive": True, "opset": 22}),
    "lengths-plain": Small(_plain, {"length_adaptive": True}),
    "padded-lengths": Small(_plain, {"length_adaptive": True, "pad_to": 32}),
    "retention": Small(_exits, {"retention": [24, 12, 4]}),
    "lengths-int8": _lower("int8", length_adaptive=True),
    "int8": _lower("int8"),
    "int8-22": _lower("int8", opset=22),
    "int8-weight": _lower("int8-weight"),
    "int4-weight": _lower("int4-weight"),
    "fp16": _lower("fp16"),
    "bf16": _lower("bf16"),
}


def export_small(name: str, folder: Path) -> Path:
    """Export a bundle of the table, or of a case of the contract suite."""
    if name in SMALL:
        write, options = SMALL[name]
        write(folder / "checkpoint")
        export(folder / "checkpoint", folder / "bundle", **options)
        return folder / "bundle"
    from systems.case import export_case

    return export_case(CASES[name], folder).bundle


def some_inputs(bundle: Bundle, seed: int = 0, lengths: list[int] | None = None) -> Arrays:
    """Rows of random tokens, of several lengths where padding is allowed."""
    manifest = bundle.manifest
    extents = np.array(lengths or LENGTHS)
    if not manifest.padding_free:
        extents = np.full(len(extents), 12)
    longest = int(extents.max())
    shape = len(extents), longest
    ids = np.random.default_rng(seed).integers(5, manifest.limits.vocab_size, shape)
    mask = (np.arange(longest) < extents[:, None]).astype(np.int64)
    arrays = {
        "input_ids": np.where(mask == 1, ids, manifest.limits.pad_id),
        "attention_mask": mask,
        "token_type_ids": np.zeros(shape, np.int64),
        "word_map": np.where(mask == 1, np.arange(longest), -1),
    }
    wanted = {"attention_mask", *(item.name for item in manifest.inputs)}
    return {name: array for name, array in arrays.items() if name in wanted}


def some_knobs(bundle: Bundle, **given: Any) -> Arrays:
    """Values of all knobs that graphs read: those given, or what lets no row leave."""
    knobs = {}
    for knob in bundle.manifest.knobs:
        if knob.choices is None:
            value = given.get(knob.name, float(knob.never))
            value = [value] * knob.count if knob.count and np.ndim(value) == 0 else value
            knobs[knob.name] = np.asarray(value).astype(knob.dtype)
    return knobs


def who_leaves(bundle: Bundle) -> list[np.ndarray]:
    """After each segment some rows, the longest first; an older exit's rows stay gone."""
    gone, leaving = np.zeros(len(LENGTHS), bool), []
    for index in range(len(bundle.manifest.segments)):
        for row in {0: (1, 0), 1: (3,)}.get(index, ()):
            gone[row] = True
        leaving.append(gone.copy())
    return leaving
