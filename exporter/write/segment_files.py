"""Write the segments of a bundle, and the weights that several of them read."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from effbert.exporter.segments import BuiltModel
from effbert.exporter.write.atomic import BundleWriter, check_space
from effbert.graph_passes.share import padded, share_weights
from effbert.runtime.bundle.names import WEIGHTS_NAME


def write_segments(writer: BundleWriter, built: Sequence[BuiltModel]) -> None:
    """Write every segment; weights that several share go to `weights.bin`.

    Raises:
        ResourceError: The disk is full or refuses a file.
    """
    graphs = [graph for model in built for graph in model.graphs]
    check_space(writer.target, _weight_bytes(graphs))
    shared = share_weights(graphs, WEIGHTS_NAME)
    if shared:
        parts: list[bytes] = []
        for tensor in shared:
            data = tensor.tobytes()
            parts += [data, bytes(padded(len(data)) - len(data))]
        writer.write(WEIGHTS_NAME, *parts)
    for model in built:
        for segment in model.segments:
            writer.write(segment.record.file, ir.to_proto(segment.model).SerializeToString())


def _weight_bytes(graphs: Sequence[ir.Model]) -> int:
    """Sum the bytes of all weights, those that several segments share once."""
    values = (value for graph in graphs for value in graph.graph.initializers.values())
    tensors = {value.const_value for value in values if value.const_value is not None}
    return sum(tensor.nbytes for tensor in tensors)
