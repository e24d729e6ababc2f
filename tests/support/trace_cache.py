"""Traces are kept on disk: a model that was traced in this or an earlier run is not traced again.

Tracing is nearly all that an export costs. What is kept is the graph as torch wrote it; a model's
key holds its code, structure and weights, what the trace reads of its description, and the
versions of the libraries. `fresh_traces` in a test's arguments leaves the tracer as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fingerprint import NoFingerprint, fingerprint, source_digest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "test-cache" / "traces"
LIBRARIES = ("torch", "onnx", "onnx_ir", "onnxscript", "transformers", "numpy")
SOURCES = ("trace.py", "translations.py", "quiet.py", "models", "encoders", "heads", "formats")
# What policies and manifests read of a description, and no model does.
UNREAD = ("format paper policy atol labels problem defaults notes trials operating_points").split()
# The least recently used traces go when there are more.
KEPT = 600


@cache
def surroundings() -> str:
    """What a trace depends on beside the model."""
    versions = [version(library) for library in LIBRARIES]
    sources = [ROOT / "exporter" / source for source in SOURCES]
    return fingerprint(sys.version_info[:3], versions, source_digest(*sources))


def key_of(model: Any, opset: int) -> str:
    """The name of a model's trace.

    Raises:
        NoFingerprint: the model holds what cannot be compared.
    """
    description = model.description
    state = {name: value for name, value in vars(model).items() if name != "description"}
    read = {name: value for name, value in vars(description).items() if name not in UNREAD}
    # Libraries have versions; classes of ours and of the tests change without one.
    kinds = {kind for part in model.modules() for kind in type(part).__mro__}
    own = [kind for kind in kinds if not is_installed(kind)]
    code = [(str(kind), vars(kind)) for kind in sorted(own, key=str)]
    return fingerprint(surroundings(), type(model), state, read, opset, code)


def is_installed(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is None or "site-packages" in Path(file).parts


def through_disk(trace: Callable[..., Any], folder: Path = FOLDER) -> Callable[..., Any]:
    """Make a `trace` that looks on the disk first, and puts there what it had to trace."""

    def cached_trace(model: Any, opset: int) -> Any:
        try:
            key = key_of(model, opset)
        except NoFingerprint:
            return trace(model, opset)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{key}.onnx"
        with FileLock(folder / f"{key}.lock"):  # whoever wants the same trace waits for it
            if file.exists():
                os.utime(file)
                return read(file)
            traced = trace(model, opset)
            keep(traced, file)
        return traced

    return cached_trace


def keep(traced: Any, file: Path) -> None:
    """Write all or nothing: the graph's outputs are the exits' in order, their names metadata."""
    import onnx_ir as ir

    names = [",".join(each.outputs) for each in traced.exits]
    traced.graph.metadata_props["exits"] = ";".join(names)
    try:
        passing = file.with_suffix(f".{os.getpid()}")
        passing.write_bytes(ir.to_proto(traced.graph).SerializeToString())
        passing.replace(file)
    finally:
        del traced.graph.metadata_props["exits"]


def read(file: Path) -> Any:
    """Give back what `keep` wrote."""
    import onnx
    import onnx_ir as ir

    from effbert.exporter.trace import Traced
    from effbert.graph_passes.cut import Exit

    graph = ir.from_proto(onnx.load(file))
    names = [each.split(",") for each in graph.metadata_props.pop("exits").split(";")]
    flat = iter(graph.graph.outputs)
    exits = [Exit(next(flat), {name: next(flat) for name in n if name}) for n in names]
    return Traced(graph, exits, [*graph.graph.initializers.values()])


@contextmanager
def tracing_with(trace: Callable[..., Any]) -> Iterator[None]:
    """Let exports trace with this function."""
    from effbert.exporter import segments

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "trace", trace)
        yield


def original() -> Callable[..., Any]:
    """The tracer of the product."""
    from effbert.exporter.trace import trace

    return trace


def forget_the_oldest(folder: Path = FOLDER) -> None:
    """Leave `KEPT` traces."""
    files = sorted(folder.glob("*.onnx"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[KEPT:]:
        file.unlink(missing_ok=True)
        file.with_suffix(".lock").unlink(missing_ok=True)
