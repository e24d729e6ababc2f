"""What several segments compute from the inputs of the bundle alone is computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence

from effbert.runtime.engines.onnxruntime.graph_bytes import Branch, renamed_constant

Numbers = dict[Hashable, int]  # what a value is, and a number that stands for it


def share_nodes(
    branches: Sequence[Branch], fixed: Collection[str], prefix: str
) -> tuple[list[bytes], list[bytes]]:
    """Move nodes that stand in several branches in front of all of them.

    Mostly the mask: every segment of a BERT makes it in seven small steps.

    Args:
        branches: Changed in place.
        fixed: Names around the branches of values that stay the same from branch to branch.
        prefix: What the names of shared values begin with.

    Returns:
        Nodes, in order, and the constants that they read.
    """
    numbers: Numbers = {}
    known = [_known(branch, fixed, numbers) for branch in branches]
    found = Counter(number for several in known for number in {*several.values()})
    nodes: dict[int, bytes] = {}
    constants: dict[int, bytes] = {}
    names: dict[int, str] = {}  # of shared values
    for branch, here in zip(branches, known, strict=True):
        kept = []
        for node in branch.nodes:
            number = here.get(node.outputs[0], -1) if len(node.outputs) == 1 else -1
            if found[number] < 2:
                kept.append(node)
                continue
            for name in node.inputs:
                if name in branch.names:
                    names[here[name]] = branch.names[name]
                elif here[name] not in names:
                    name_there = names[here[name]] = f"{prefix}{len(names)}"
                    constants[here[name]] = renamed_constant(branch.constants[name], name_there)
            if number not in names:
                names[number] = f"{prefix}{len(names)}"
                inputs = [names[here[name]] for name in node.inputs]
                nodes[number] = node.written(inputs, [names[number]])
            branch.names[node.outputs[0]] = names[number]
        branch.nodes = kept
    return list(nodes.values()), list(constants.values())


def _known(branch: Branch, fixed: Collection[str], numbers: Numbers) -> dict[str, int]:
    """Return the values that follow from fixed ones, by name; equal numbers mean equal values."""
    fed = {name: around for name, around in branch.names.items() if around in fixed}
    known = {name: numbers.setdefault(around, len(numbers)) for name, around in fed.items()}
    varying = set(known)
    for name, data in branch.constants.items():
        known[name] = numbers.setdefault(renamed_constant(data, ""), len(numbers))
    for node in branch.nodes:
        follows = len(node.outputs) == 1 and all(name in known for name in node.inputs)
        # What is made of constants alone stays: engines fuse weights with what reads them.
        if follows and not varying.isdisjoint(node.inputs):
            what = (node.what, *(known[name] for name in node.inputs))
            known[node.outputs[0]] = numbers.setdefault(what, len(numbers))
            varying.add(node.outputs[0])
    return known
