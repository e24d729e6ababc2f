"""What several segments compute from the inputs of the bundle alone is computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Sequence

from effbert.runtime.engines.graph_bytes import Branch, Node, renamed_constant

Meaning = Hashable  # equal for values that are the same in every run


def share_nodes(
    branches: Sequence[Branch], fixed: Collection[str], prefix: str
) -> tuple[list[bytes], list[bytes]]:
    """Moves nodes that stand in several branches in front of all of them.

    Mostly the mask: every segment of a BERT makes it in seven small steps.

    Args:
        branches: Changed in place.
        fixed: Names around the branches of values that stay the same from branch to branch.
        prefix: What the names of shared values begin with.

    Returns:
        Nodes, in order, and the constants that they read.
    """
    meanings = [_meanings(branch, fixed) for branch in branches]
    found = Counter(meaning for several in meanings for meaning in set(several.values()))
    shared = {meaning for meaning, count in found.items() if count > 1}
    nodes: dict[Meaning, bytes] = {}
    constants: dict[Meaning, bytes] = {}
    names: dict[Meaning, str] = {}
    for branch, known in zip(branches, meanings, strict=True):
        moved = {id(node) for node in _movable(branch, known) if known[node.outputs[0]] in shared}
        for node in branch.nodes:
            if id(node) not in moved:
                continue
            for name in node.inputs:
                meaning = known[name]
                if name in branch.constants and meaning not in names:
                    names[meaning] = f"{prefix}{len(names)}"
                    constants[meaning] = renamed_constant(branch.constants[name], names[meaning])
                elif name in branch.names:
                    names[meaning] = branch.names[name]
            (output,) = node.outputs
            meaning = known[output]
            if meaning not in names:
                names[meaning] = f"{prefix}{len(names)}"
                inputs = [names[known[name]] for name in node.inputs]
                nodes[meaning] = node.written(inputs, [names[meaning]])
            branch.names[output] = names[meaning]
        branch.nodes = [node for node in branch.nodes if id(node) not in moved]
    return list(nodes.values()), list(constants.values())


def _meanings(branch: Branch, fixed: Collection[str]) -> dict[str, Meaning]:
    """What is known of values that depend on fixed ones and constants only, by name."""
    known: dict[str, Meaning] = {
        name: around for name, around in branch.names.items() if around in fixed
    }
    known |= {name: renamed_constant(data, "") for name, data in branch.constants.items()}
    for node in branch.nodes:
        if len(node.outputs) == 1 and all(name in known for name in node.inputs):
            known[node.outputs[0]] = (node.what, *(known[name] for name in node.inputs))
    return known


def _movable(branch: Branch, known: dict[str, Meaning]) -> Iterator[Node]:
    return (node for node in branch.nodes if len(node.outputs) == 1 and node.outputs[0] in known)
