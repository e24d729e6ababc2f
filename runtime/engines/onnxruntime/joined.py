"""All segments of a bundle as one graph, for engines that know control flow.

A session for each segment costs a call, a wake-up of its threads and a pool of memory at every
exit. Here the segments are the branches of an `If` inside a `Loop`, which goes on by itself until a
row leaves:

    Loop(most, index = first, carries):
        If(index):  segment 0 | segment 1 | ...
        go on while no row leaves

The host still takes the rows that left and packs the others; it then enters at the next segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np

from effbert.runtime.bundle.manifest import Manifest, Segment, Tensor
from effbert.runtime.bundle.names import MASK
from effbert.runtime.engines.onnxruntime.biases import IMPORT, fuse_biases
from effbert.runtime.engines.onnxruntime.graph_bytes import (
    DTYPES,
    Branch,
    Shape,
    encode_attribute,
    encode_constant,
    encode_graph,
    encode_model,
    encode_node,
    encode_value,
)
from effbert.runtime.engines.onnxruntime.shared_nodes import share_nodes

# What stands for `NAME` of the manifest is called `effbert.NAME` or `effbert.KIND.NAME`; names in a
# manifest have no dots. A segment that uses such names itself is refused by the engine.
OURS = "effbert."
_OWN = f"{OURS}own.of-the-loop."
FIRST, MOST, INDEX, LAST = (f"{_OWN}{name}" for name in ("first", "most", "index", "last"))
_ITERATION, _GO, _NEXT_INDEX = (f"{_OWN}{name}" for name in ("iteration", "go", "next"))
_ONE, _TRUE, _ZERO = f"{_OWN}one", f"{_OWN}true", f"{_OWN}zero"
_SCALAR: Shape = ()


class Names:
    """The tensors of a bundle by the part they play between segments.

    Attributes:
        data: Inputs of the bundle that no segment replaces.
        carries: What flows from segment to segment.
        entries: The inputs of the joined graph for data and carries. Each may be left out by
            segments that do not read it.
        knobs: Those that graphs read.
        stacks: The inputs of the joined graph for knobs: values of all segments.
        answers: Outputs that every segment may have, carries aside.
        ends: The outputs of the joined graph for carries and answers.
    """

    def __init__(self, manifest: Manifest) -> None:
        segments = manifest.segments
        carried = {name for segment in segments for name in segment.carries}
        carried |= {state.name for state in manifest.states}
        self.carries = {name: each for each, name in _with_names(manifest) if name in carried}
        self.data = {item.name: item for item in manifest.inputs if item.name not in self.carries}
        self.entries = {name: _around(name) for name in self.data}
        self.entries |= {name: f"{OURS}first.{name}" for name in self.carries}
        read = {item.name: item for segment in segments for item in segment.inputs}
        self.knobs = {knob.name: read[knob.name] for knob in manifest.knobs if knob.name in read}
        self.stacks = {name: f"{OURS}all.{name}" for name in self.knobs}
        wanted = ("exit", "signal", *manifest.outputs, "exit_layer")
        known = {item.name: item for segment in segments for item in segment.outputs}
        self.answers = {name: known[name] for name in wanted if name in known}
        self.ends = {name: f"{OURS}last.{name}" for name in (*self.carries, *self.answers)}
        self._segments = segments

    def needed_after(self, index: int) -> set[str]:
        """Return the carries that the host or a segment after this one reads."""
        read = {item.name for segment in self._segments[index + 1 :] for item in segment.inputs}
        return {name for name in self.carries if name in read or name == MASK}


def join_segments(
    manifest: Manifest, files: Iterable[bytes], weights: BinaryIO, name: str
) -> bytes:
    """Write the joined graph.

    Args:
        manifest: Of one variant.
        files: The ONNX files of its segments, in order; each is let go once it is taken apart.
        weights: Where larger weights are written.
        name: What the graph calls that file.

    Returns:
        The ONNX file of the joined graph, without the larger weights.

    Raises:
        ValueError: A segment is no ONNX file of the kind that an exporter writes.
    """
    names = Names(manifest)
    branches = []
    fused = False
    for segment, data in zip(manifest.segments, files, strict=True):
        around = {item.name: _around(item.name) for item in segment.inputs}
        branch = Branch(data, around, segment.file)
        branch.store_weights(weights, name)
        fused |= fuse_biases(branch, [item.name for item in segment.outputs])
        branches.append(branch)
    if len({branch.versions for branch in branches}) != 1:
        raise ValueError("segments of different versions of ONNX")
    # What the last segment reads is fed at every entry.
    fixed = {names.entries[name] for name in names.data if name in branches[-1].names}
    first = share_nodes(branches, fixed, f"{OURS}shared.")
    written = [
        _branch(branch, segment, names, names.needed_after(index))
        for index, (branch, segment) in enumerate(zip(branches, manifest.segments, strict=True))
    ]
    versions = branches[0].versions
    if fused and IMPORT not in versions:
        versions += IMPORT
    return encode_model(_joined(written, names, *first), versions)


def nothing(tensor: Tensor) -> np.ndarray:
    """Tell what stands for a carry that no segment has made yet, or that none will read."""
    return np.zeros([0 if isinstance(axis, str) else axis for axis in tensor.axes], tensor.dtype)


def _with_names(manifest: Manifest) -> list[tuple[Tensor, str]]:
    """Every tensor that may be a carry, as the segments read it."""
    made = [
        (item, name)
        for segment in manifest.segments
        for name, source in segment.carries.items()
        for item in segment.outputs
        if item.name == source
    ]
    return [*made, *((item, item.name) for item in (*manifest.inputs, *manifest.states))]


def _branch(branch: Branch, segment: Segment, names: Names, needed: set[str]) -> bytes:
    """Return a segment that yields every carry and every answer, whatever it makes itself."""
    outputs = []
    for name in names.carries:
        if name in segment.carries:
            outputs.append(segment.carries[name])
        else:
            source = _around(name) if name in needed else _nothing(name)
            outputs.append(branch.pass_on(source))
    made = {item.name for item in segment.outputs}
    outputs += [each if each in made else branch.pass_on(_nothing(each)) for each in names.answers]
    tensors = (*names.carries.values(), *names.answers.values())
    return branch.written(list(zip(outputs, tensors, strict=True)))


def _joined(
    branches: Sequence[bytes], names: Names, shared: Sequence[bytes], constants: Sequence[bytes]
) -> bytes:
    entries = [names.entries[name] for name in names.carries]
    entries = [FIRST, *entries, *map(_nothing, names.answers)]
    ends = [LAST, *names.ends.values()]
    loop = encode_node(
        "Loop",
        [MOST, _TRUE, *entries],
        ends,
        encode_attribute("body", graph=_body(branches, names)),
    )
    extents = len(branches)
    inputs = [encode_value(MOST, "int64", _SCALAR), encode_value(FIRST, "int64", _SCALAR)]
    fed = {names.entries[name]: tensor for name, tensor in (names.data | names.carries).items()}
    inputs += [encode_value(name, tensor.dtype, tensor.axes) for name, tensor in fed.items()]
    inputs += [
        encode_value(names.stacks[name], item.dtype, [extents, *item.axes])
        for name, item in names.knobs.items()
    ]
    every = names.carries | names.answers
    outputs = [encode_value(ends[0], "int64", _SCALAR), *_values(ends[1:], every.values())]
    constants = [
        *constants,
        encode_constant(_ONE, np.array(1, np.int64)),
        encode_constant(_TRUE, np.array(True)),
        encode_constant(_ZERO, np.array(0, np.float32)),
        *(encode_constant(_index_name(k), np.array(k, np.int64)) for k in range(1, extents)),
        *(encode_constant(_nothing(name), nothing(tensor)) for name, tensor in every.items()),
        *(encode_constant(name, nothing(tensor)) for name, tensor in fed.items()),  # if not fed
    ]
    return encode_graph([*shared, loop], constants, inputs, outputs)


def _body(branches: Sequence[bytes], names: Names) -> bytes:
    """One turn of the loop: the segment at `INDEX`, and whether to go on."""
    every = (names.carries | names.answers).items()
    inputs = [
        encode_value(_ITERATION, "int64", _SCALAR),
        encode_value(_GO, "bool", _SCALAR),
        encode_value(INDEX, "int64", _SCALAR),
        *(encode_value(_around(name), tensor.dtype, tensor.axes) for name, tensor in every),
    ]
    nodes = [
        encode_node("Gather", [stack, INDEX], [_around(name)])
        for name, stack in names.stacks.items()
    ]
    results = [_following(name) for name, _ in every]
    tensors = [tensor for _, tensor in every]
    nodes += _switch(branches, 0, results, tensors)
    nodes += _decision()
    nodes.append(encode_node("Add", [INDEX, _ONE], [_NEXT_INDEX]))
    outputs = [
        encode_value(f"{_OWN}again", "bool", _SCALAR),
        encode_value(_NEXT_INDEX, "int64", _SCALAR),
    ]
    return encode_graph(nodes, [], inputs, [*outputs, *_values(results, tensors)])


def _switch(
    branches: Sequence[bytes], start: int, results: Sequence[str], tensors: Sequence[Tensor]
) -> list[bytes]:
    """Nodes that run the branch whose index is `INDEX`; the first, which run most, come first."""
    middle = max(1, len(branches) // 4)
    test = f"{_OWN}below.{start + middle}"

    def side(part: Sequence[bytes], begin: int) -> bytes:
        if len(part) == 1:
            return part[0]
        inner = [f"{name}.{begin}.{len(part)}" for name in results]
        return encode_graph(_switch(part, begin, inner, tensors), [], [], _values(inner, tensors))

    return [
        encode_node("Less", [INDEX, _index_name(start + middle)], [test]),
        encode_node(
            "If",
            [test],
            results,
            encode_attribute("then_branch", graph=side(branches[:middle], start)),
            encode_attribute("else_branch", graph=side(branches[middle:], start + middle)),
        ),
    ]


def _decision() -> list[bytes]:
    """Nodes that say whether to go on: nobody leaves."""
    flags, most = f"{_OWN}flags", f"{_OWN}largest"
    return [  # the largest of bools needs opset 20
        encode_node(
            "Cast", [_following("exit")], [flags], encode_attribute("to", number=DTYPES["float32"])
        ),
        encode_node("ReduceMax", [flags], [most], encode_attribute("keepdims", number=0)),
        encode_node("Equal", [most, _ZERO], [f"{_OWN}again"]),
    ]


def _values(names: Iterable[str], tensors: Iterable[Tensor]) -> list[bytes]:
    """Return outputs whose shapes stay open."""
    return [encode_value(name, each.dtype, None) for name, each in zip(names, tensors, strict=True)]


def _around(name: str) -> str:
    """Tell what a segment's input is called around it."""
    return f"{OURS}{name}"


def _following(name: str) -> str:
    return f"{OURS}next.{name}"


def _nothing(name: str) -> str:
    return f"{OURS}nothing.{name}"


def _index_name(index: int) -> str:
    return f"{_OWN}index.{index}"
