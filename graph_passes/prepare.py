"""Prepare a segment of a bundle for an engine that compiles: every rewrite, in order.

1. `inline_weights`: weights come from checked bytes, so that no parser opens a file.
2. `symmetric_int8.make_symmetric`: quantized activations without zero points, the same integers.
3. `level_tables.widen_tables`: int8 tables that are read by row, as float16.
4. `host_extents.take_extents`: extents that depend on data become inputs.
5. `device_rows.take_rows`: carries are reduced to the rows and columns that go on.
6. `sixteen_bits.compute_in_16_bits`: the compute precision, where it is below float32.

Nothing here needs the engine: what is prepared on one machine may be built on another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from effbert.graph_passes.device_rows import take_rows
from effbert.graph_passes.host_extents import HostExtent, take_extents
from effbert.graph_passes.inline_weights import inline_weights
from effbert.graph_passes.level_tables import widen_tables
from effbert.graph_passes.refusal import PrepareError
from effbert.graph_passes.sixteen_bits import PRODUCTS, compute_in_16_bits
from effbert.graph_passes.symmetric_int8 import make_symmetric

COMPUTES = ("fp32", "fp16", "bf16")
WEIGHTS = "weights.bin"
Role = Literal["input", "knob", "carry", "rows", "extent", "output"]


@dataclass(frozen=True)
class Request:
    """What a segment is prepared for.

    Attributes:
        compute: "fp32", "fp16" or "bf16".
        rows: Carry -> name of the input with its rows, see `device_rows.take_rows`.
        trims: Whether columns that are padding in all rows are dropped between segments.
        carries: Carry -> output that replaces it.
        states: Carries of the policy, which cross in their own type.
        knobs: Inputs that are knobs.
    """

    compute: str = "fp32"
    rows: Mapping[str, str] = field(default_factory=dict)
    trims: bool = False
    carries: Mapping[str, str] = field(default_factory=dict)
    states: Collection[str] = ()
    knobs: Collection[str] = ()

    @property
    def narrow(self) -> set[str]:
        """Inputs and outputs that cross in 16 bits if the segment computes in 16 bits."""
        crossing = {*self.rows, *self.carries} - {*self.states}
        return crossing | {out for name, out in self.carries.items() if name in crossing}


@dataclass(frozen=True)
class Port:
    """An input or output of a prepared segment.

    Attributes:
        name: As in the graph.
        dtype: Such as "float32".
        axes: Extents; a name is a dynamic one, and equal names are equal extents.
        role: What it is.
        rows: Of a carry, the input with its rows.
    """

    name: str
    dtype: str
    axes: tuple[int | str, ...]
    role: Role
    rows: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A prepared segment.

    Attributes:
        model: The ONNX file, weights inside.
        inputs: In the order of the graph, those too that it does not read.
        outputs: In the order of the graph.
        extents: How the host computes each input of the role "extent".
        changes: Rewrite -> how much it changed.
        constants: Bytes of its constants, in the types that they are computed in.
        wide_products: Products that compute in float32.
        nodes: How many nodes it has.
    """

    model: bytes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    extents: tuple[HostExtent, ...]
    changes: Mapping[str, int]
    constants: int
    wide_products: tuple[str, ...]
    nodes: int


def prepare(data: bytes, weights: bytes | None = None, request: Request | None = None) -> Prepared:
    """Prepare one segment.

    Args:
        data: Its ONNX file.
        weights: Content of `weights.bin`; None if the bundle has none.
        request: What for.

    Raises:
        PrepareError: Names the node, the reason and the way out.
    """
    request = request or Request()
    if request.compute not in COMPUTES:
        raise PrepareError(
            f"There is no compute precision {request.compute}; choose one of {', '.join(COMPUTES)}."
        )
    model = read_model(data)
    extents: list[HostExtent] = []

    def count_extents(each: ir.Model) -> int:
        extents.extend(take_extents(each))
        return len(extents)

    rewrites: dict[str, Callable[[ir.Model], int]] = {
        "weights inlined": lambda each: inline_weights(each, WEIGHTS, weights),
        "activations around zero": make_symmetric,
        "tables widened": widen_tables,
        "extents from the host": count_extents,
        "carries taken by row": lambda each: take_rows(each, request.rows, request.trims),
    }
    if request.compute != "fp32":
        rewrites["nodes in 16 bits"] = lambda each: compute_in_16_bits(
            each, request.compute, request.narrow
        )
    changes = {name: rewrite(model) for name, rewrite in rewrites.items()}
    return Prepared(
        model=ir.to_proto(model).SerializeToString(),
        inputs=tuple(_input(value, request, extents) for value in model.graph.inputs),
        outputs=tuple(_port(value, "output") for value in model.graph.outputs),
        extents=tuple(extents),
        changes=changes,
        constants=sum(map(_computed_bytes, model.graph.initializers.values())),
        wide_products=tuple(
            str(node.name)
            for node in model.graph
            if node.op_type in PRODUCTS and node.outputs[0].dtype == ir.DataType.FLOAT
        ),
        nodes=len(model.graph),
    )


def read_model(data: bytes) -> ir.Model:
    """Read an ONNX file whose constants are all initializers then.

    Raises:
        PrepareError: It is none.
    """
    try:
        model = ir.from_proto(_proto(data))
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    except Exception as error:
        raise PrepareError(
            f"This is no ONNX file that can be read ({str(error)[:120]}); export the bundle again."
        ) from error
    if not model.graph.outputs:
        raise PrepareError("This ONNX file holds no outputs; export the bundle again.")
    return model


def _proto(data: bytes) -> Any:
    proto: Any = ir.to_proto(ir.Model(ir.Graph([], [], nodes=[]), ir_version=10))
    proto.Clear()
    proto.ParseFromString(data)
    return proto


def _computed_bytes(value: ir.Value) -> int:
    """Count the bytes of a constant; one that is widened is widened when the plan is built."""
    tensor = value.const_value
    widened = any(use.node.op_type == "Cast" for use in value.uses())
    return tensor.size * 4 if widened else tensor.nbytes


def _input(value: ir.Value, request: Request, extents: list[HostExtent]) -> Port:
    if value.name in request.rows:
        return _port(value, "carry", request.rows[value.name])
    if value.name in request.knobs:
        return _port(value, "knob")
    if value.name in request.rows.values():
        return _port(value, "rows")
    if any(value.name == extent.name for extent in extents):
        return _port(value, "extent")
    return _port(value, "input")


def _port(value: ir.Value, role: Role, rows: str | None = None) -> Port:
    dtype = value.dtype.numpy().name
    axes = tuple(each if isinstance(each, int) else str(each) for each in value.shape)
    return Port(value.name, dtype, axes, role, rows)
