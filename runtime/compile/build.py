"""Build one plan with TensorRT, and turn each of its soft failures into a sentence.

The calls return None, False or -1, or succeed with a warning; the reason is in the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from effbert.runtime.compile.library import chooses_targets
from effbert.runtime.compile.ports import Ports
from effbert.runtime.errors import CompileError, ResourceError

NO_DRIVER = re.compile(r"\[?checkMacros\.cpp::catchCudaError[^\n]*cudaError 35[^\n]*\)?")
SOURCE = re.compile(r"\s*In \w+ at /_src/\S+|\[?\S+\.cpp:(?:\d+: )?\w*\]?\s*")
LONGEST = 300
MEMORY = ("OutOfMemory", "out of memory", "bad_alloc")
BAD_PROFILE = "not self-consistent"
SPELLED = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


class Choices(NamedTuple):
    """What is asked of every plan of a bundle.

    Attributes:
        targets: Such as "sm86"; not used where the library builds for this machine's GPU.
        tf32: Whether products of float32 may round their factors to TF32.
    """

    targets: Sequence[str]
    tf32: bool = False


Shapes = Mapping[str, Sequence[Sequence[int]]]  # input -> least, usual and largest


def build_plan(
    library: Any, name: str, model: bytes, ports: Ports, profiles: Sequence[Shapes], asked: Choices
) -> Any:
    """Build a plan.

    Args:
        library: TensorRT's module.
        name: File name of the segment, for messages.
        model: The prepared ONNX file, weights inside; the parser opens no file.
        ports: What it reads and makes.
        profiles: For each input its least, usual and largest shape; for an extent, numbers.
        asked: Targets and flags.

    Returns:
        Its bytes, as TensorRT holds them.

    Raises:
        CompileError: TensorRT refuses the graph, a profile or a target; names which and why.
        ResourceError: The memory is not enough.
    """
    log = _make_log(library)
    builder = library.Builder(log)
    if builder is None:
        raise _failed(name, "could not start", log)
    network = builder.create_network(_typed(library))
    parser = library.OnnxParser(network, log)
    if not parser.parse(model):
        raise CompileError(f"{name} cannot be parsed: {_parser_problem(parser, log)}.")
    if not network.num_outputs:
        raise CompileError(f"{name} holds no outputs; export the bundle again.")
    _decompose_attention(library, network)
    _check_network(name, network, ports)
    config = builder.create_builder_config()
    if not asked.tf32:
        config.clear_flag(library.BuilderFlag.TF32)
    _set_targets(library, config, name, asked.targets, log)
    for number, shapes in enumerate(profiles, 1):
        _add_profile(builder, network, config, name, number, shapes, log)
    log.records.clear()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failed(name, "cannot be built", log)
    if any(BAD_PROFILE in text for text in log.of("WARNING")):
        raise CompileError(
            f"{name}: the largest shapes of a profile do not fit each other, so that it would fail "
            "at run time; give a --profile with smaller ones."
        )
    return plan


def _make_log(library: Any) -> Any:
    """Make a logger that keeps warnings and errors."""

    class Log(library.ILogger):  # type: ignore[misc]  # the module is known when it is loaded
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.records: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(library.ILogger.Severity.WARNING):
                self.records.append((severity.name, message))

        def of(self, *severities: str) -> list[str]:
            return [text for severity, text in self.records if severity in severities]

    return Log()


def _typed(library: Any) -> int:
    """Return the flag that makes types those of the graph; where it is missing, they always are."""
    flags = library.NetworkDefinitionCreationFlag
    if chooses_targets(library) or not hasattr(flags, "STRONGLY_TYPED"):
        return 0
    return 1 << int(flags.STRONGLY_TYPED)


def _decompose_attention(library: Any, network: Any) -> None:
    """Let attention be built from simple layers where no kernel has it, as in float32."""
    kinds = getattr(library, "LayerType", None)
    attention = getattr(kinds, "ATTENTION_INPUT", None)
    if attention is None:
        return
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == attention:
            layer.__class__ = library.IAttentionInputLayer
            layer.attention.decomposable = True


def _check_network(name: str, network: Any, ports: Ports) -> None:
    """Compare what TensorRT made of the inputs and outputs with what the graph says."""
    for kind, count, get, listed in (
        ("input", network.num_inputs, network.get_input, ports.inputs),
        ("output", network.num_outputs, network.get_output, ports.outputs),
    ):
        found = {tensor.name: tensor for tensor in map(get, range(count))}
        if found.keys() != {port.name for port in listed}:
            odd = ", ".join(sorted(found.keys() ^ {port.name for port in listed}))
            raise CompileError(f"{name}: TensorRT and the graph do not agree on the {kind}s {odd}.")
        for port in listed:
            tensor = found[port.name]
            dtype = SPELLED.get(tensor.dtype.name, tensor.dtype.name)
            if dtype != port.dtype:
                raise CompileError(
                    f"{name}: TensorRT makes {dtype} of the {kind} {port.name}, which is "
                    f"{port.dtype}; compile with another --compute."
                )
            if kind == "input" and tensor.is_shape_tensor != (port.role == "extent"):
                where = "memory of the host" if tensor.is_shape_tensor else "memory of the device"
                raise CompileError(
                    f"{name}: TensorRT wants the input {port.name} in {where}, where the chain "
                    "does not put it; report this graph."
                )


def _set_targets(library: Any, config: Any, name: str, targets: Sequence[str], log: Any) -> None:
    if not chooses_targets(library):
        return
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(library.ComputeCapability, target.upper(), None)
        if capability is None or not config.set_compute_capability(capability, index):
            raise CompileError(
                f"{name} cannot be built for {target.upper()}: {reason_in(log)}; choose other "
                "--targets."
            )


def _add_profile(
    builder: Any, network: Any, config: Any, name: str, number: int, shapes: Shapes, log: Any
) -> None:
    inputs = {network.get_input(k).name: network.get_input(k) for k in range(network.num_inputs)}
    if unknown := [each for each in shapes if each not in inputs]:
        raise CompileError(f"{name}: profile {number} names {unknown[0]}, which is no input.")
    profile = builder.create_optimization_profile()
    for each, tensor in inputs.items():
        if each not in shapes:
            raise CompileError(f"{name}: profile {number} says nothing of the input {each}.")
        sizes = [tuple(size) for size in shapes[each]]
        if tensor.is_shape_tensor:
            profile.set_shape_input(each, *sizes)
        else:
            profile.set_shape(each, *sizes)
    if config.add_optimization_profile(profile) < 0:
        raise CompileError(
            f"{name}: profile {number} is refused: {reason_in(log)}; give shapes that do not fall "
            "from the least to the largest."
        )


def _parser_problem(parser: Any, log: Any) -> str:
    """Say what the parser minds, in words of its own where it has some."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        reason = tidy(error.desc())
        if reason in ("", "false") or "Plugin not found" in reason:
            reason = f"the operator {error.node_operator()} is not supported"
        where = " > ".join([*error.local_function_stack(), error.node_name()])
        return f"node {where} ({error.node_operator()}): {reason}"[:LONGEST]
    return reason_in(log)


def _failed(name: str, action: str, log: Any) -> Exception:
    reason = reason_in(log)
    if any(part in reason for part in MEMORY):
        return ResourceError(
            f"TensorRT ran out of memory while it built {name}; free some, or compile fewer "
            "profiles."
        )
    return CompileError(f"{name} {action}: {reason}.")


def reason_in(log: Any) -> str:
    """Return the first reason in a log, without what the lack of a driver adds to it."""
    texts = [tidy(text) for text in log.of("INTERNAL_ERROR", "ERROR")]
    return next((text for text in texts if text), "TensorRT gives no reason")


def tidy(text: str) -> str:
    """Strip places in TensorRT's own source, and messages that only say that there is no GPU."""
    plain = SOURCE.sub(" ", NO_DRIVER.sub("", text))
    return " ".join(plain.split()).rstrip(".")[:LONGEST]
