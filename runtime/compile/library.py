"""TensorRT's two libraries, and the devices that each builds for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from effbert.runtime.engines.table import ENGINES
from effbert.runtime.errors import CompileError, InputError, MissingDependencyError

USUAL = ("sm80", "sm86", "sm89", "sm120")  # one plan serves them all
COMPUTES = ("fp32", "fp16", "bf16")


def load_library(engine: str) -> Any:
    """Import the library of an engine.

    Raises:
        MissingDependencyError: It is not installed.
    """
    entry = ENGINES[engine]
    try:
        return import_module(entry.library)
    except Exception as error:  # the stubs of `tensorrt` raise RuntimeError, among others
        raise MissingDependencyError(
            f"Compiling for {engine} needs {entry.library}, which cannot be imported ({error}); "
            f"install it with: {entry.install}."
        ) from error


def chooses_targets(library: Any) -> bool:
    """Tell whether a library builds for devices that are named, rather than for this machine's."""
    return hasattr(library, "ComputeCapability")


def known_targets(library: Any) -> list[str]:
    """List the devices that a library can build for."""
    names = library.ComputeCapability.__members__
    return [name.lower() for name in names if name not in ("NONE", "CURRENT")]


def choose_targets(library: Any, engine: str, asked: Sequence[str]) -> list[str]:
    """Check the devices to build for.

    Args:
        library: TensorRT's module.
        engine: Its name with us.
        asked: Such as "sm86"; none is the usual ones, or this machine's.

    Raises:
        InputError: A device is unknown, or cannot be chosen with this engine.
        CompileError: The engine builds for this machine's device, and there is none.
    """
    wanted = [*dict.fromkeys(target.strip().lower() for target in asked)]
    if not chooses_targets(library):
        own = _own_target(engine)
        if wanted and wanted != [own]:
            raise InputError(
                f"{engine} builds for the GPU of this machine, {own.upper()}; leave --targets out, "
                "or compile on the device itself."
            )
        return [own]
    known = known_targets(library)
    for target in wanted:
        if target == "current":
            raise InputError(
                "The target 'current' depends on the machine; name the device instead, such as "
                f"{known[-1]}."
            )
        if target not in known:
            hint = ""
            if target in ("sm90", "sm100", "sm103"):
                hint = f" {target.upper()} needs --engine tensorrt on the device itself."
            elif target in ("sm87", "sm101", "sm110"):
                hint = " A Jetson needs --engine tensorrt on the device itself."
            raise InputError(
                f"{engine} does not build for {target!r}; choose from {', '.join(known)}.{hint}"
            )
    return wanted or [target for target in USUAL if target in known]


def _own_target(engine: str) -> str:
    try:
        cuda = import_module("effbert.runtime.engines.plans.cuda")
        return str(cuda.CudaDevice().capability)
    except Exception as error:
        reason = str(error).rstrip(".")
        raise CompileError(
            f"{engine} builds on the GPU that it builds for, and there is none here ({reason}); "
            "compile on the device, or with --engine tensorrt-rtx."
        ) from error
