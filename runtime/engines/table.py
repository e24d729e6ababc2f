"""Engines by name. Each is one folder, imported when chosen.

A new engine is one entry in `ENGINES`, one folder with a class that follows `protocol.Engine`, and
a line in `row_independence.py` once its row independence is measured.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from effbert.runtime.engines.protocol import Engine, EngineSettings
from effbert.runtime.errors import InputError, MissingDependencyError


class Entry(NamedTuple):
    """Where an engine is (`module:Class`), the library it needs and how to get that.

    An engine `on_request` is never chosen unless it is named: it needs more than its library, such
    as a GPU and compiled plans, or is a second way to use a library.
    """

    target: str
    library: str
    install: str
    on_request: bool = False


ENGINES = {
    "onnxruntime": Entry(
        "effbert.runtime.engines.onnxruntime.engine:OnnxRuntime",
        "onnxruntime",
        'pip install "effbert[cpu]"',
    ),
    "openvino": Entry(
        "effbert.runtime.engines.openvino.engine:OpenVino",
        "openvino",
        'pip install "effbert[openvino]"',
    ),
    "native": Entry(
        "effbert.runtime.engines.native.engine:Native",
        "effbert_native",
        "pip install effbert-native onnxruntime",
        on_request=True,
    ),
    "onnxruntime-cuda": Entry(
        "effbert.runtime.engines.onnxruntime.on_gpu:OnnxRuntimeCuda",
        "onnxruntime",
        'pip install "effbert[gpu]"',
        on_request=True,
    ),
    "onnxruntime-tensorrt": Entry(
        "effbert.runtime.engines.onnxruntime.on_gpu:OnnxRuntimeTensorRt",
        "onnxruntime",
        'pip install "effbert[gpu]"',
        on_request=True,
    ),
    "tensorrt-rtx": Entry(
        "effbert.runtime.engines.tensorrt_rtx.engine:TensorRtRtx",
        "tensorrt_rtx",
        'pip install "effbert[tensorrt-rtx]"',
        on_request=True,
    ),
    "tensorrt": Entry(
        "effbert.runtime.engines.tensorrt.engine:TensorRt",
        "tensorrt",
        'pip install "effbert[tensorrt]"',
        on_request=True,
    ),
}


def installed_engines() -> list[str]:
    """Name the engines that run any bundle as it is here, in the order of the table.

    Raises:
        MissingDependencyError: There is none.
    """
    ready = {name: entry for name, entry in ENGINES.items() if not entry.on_request}
    found = [name for name, entry in ready.items() if find_spec(entry.library)]
    if not found:
        ways = " or ".join(entry.install for entry in ready.values())
        raise MissingDependencyError(f"No engine is installed; get one with: {ways}.")
    return found


def open_engine(name: str, settings: EngineSettings | None = None) -> Engine:
    """Import and create an engine.

    Args:
        name: A key of `ENGINES`.
        settings: What is asked of it; None leaves all to it.

    Raises:
        InputError: There is no such engine.
        MissingDependencyError: Its library is not installed.
    """
    if name not in ENGINES:
        raise InputError(f"There is no engine {name!r}; choose one of: {', '.join(ENGINES)}.")
    entry = ENGINES[name]
    module, _, cls = entry.target.partition(":")
    try:
        chosen = getattr(import_module(module), cls)
    except MissingDependencyError:
        raise
    except Exception as error:  # a package that stands in for `tensorrt` raises RuntimeError
        if not isinstance(error, ImportError) and not entry.on_request:
            raise
        raise MissingDependencyError(
            f"Engine {name!r} needs {entry.library}, which cannot be imported ({error}); "
            f"install it with: {entry.install}."
        ) from error
    engine: Engine = chosen(settings or EngineSettings())
    return engine
