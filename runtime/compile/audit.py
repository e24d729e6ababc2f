"""Does a plan fit the precision that was asked for? What should be 16 bits may silently be 32."""

from __future__ import annotations

from typing import Any

from effbert.runtime.errors import CompileError

ROOM = 1.25  # of the bytes of constants; the rest is code
CODE = 3 << 20  # bytes of a small plan under one profile
NODE = 1 << 17  # and of a node more


def audit_graph(name: str, prepared: Any, compute: str) -> None:
    """Refuse a prepared graph whose products are not in the precision asked for.

    Raises:
        CompileError: Names one of them.
    """
    if compute == "fp16" and prepared.wide_products:
        raise CompileError(
            f"{name}: {prepared.wide_products[0]} and {len(prepared.wide_products) - 1} more "
            "products would compute in float32, not in fp16; report this graph, or compile with "
            "--compute fp32."
        )


def audit_size(name: str, prepared: Any, size: int, profiles: int, compute: str) -> None:
    """Refuse a plan that is much larger than its constants: they were widened.

    Raises:
        CompileError: Says how large it is, and how large it may be.
    """
    most = int(ROOM * prepared.constants) + profiles * (CODE + NODE * prepared.nodes)
    if size > most:
        raise CompileError(
            f"{name}: the plan has {size >> 20} MiB, and {most >> 20} MiB would be much for "
            f"{compute}, so that TensorRT must have widened the weights; report this graph, or "
            "compile with --compute fp32."
        )
