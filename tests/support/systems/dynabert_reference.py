"""DynaBERT at one width and depth, cut out of the stored tensors before anything runs."""

from __future__ import annotations

from pathlib import Path

from reference import load_checkpoint
from systems.compressed_checkpoint import HEAD_SIZE, HEADS, HIDDEN, NEURONS
from systems.compressed_reference import Encoder


def dynabert_reference(folder: Path, width: float = 1.0, depth: float = 1.0) -> Encoder:
    """The first heads and neurons of each layer that is left; all else is as stored."""
    config, tensors = load_checkpoint(folder)
    share = round(HEADS * width) / HEADS
    rows, units = int(share * HIDDEN), int(share * NEURONS)
    for name in tensors:
        tensor = tensors[name]
        if ".attention.self." in name:
            tensors[name] = tensor[:rows]
        elif ".attention.output.dense.weight" in name:
            tensors[name] = tensor[:, :rows]
        elif ".intermediate.dense." in name:
            tensors[name] = tensor[:units]
        elif name.endswith(".output.dense.weight"):
            tensors[name] = tensor[:, :units]
    layers = int(str(config["num_hidden_layers"]))
    kept = [int(place / depth) + 1 for place in range(round(depth * layers))]
    return Encoder(folder, tensors=tensors, head_size=HEAD_SIZE, kept=kept)
