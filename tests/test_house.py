"""Who may know whom: one table, and no circle between files."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("exporter", "graph_passes", "runtime")


class Room(NamedTuple):
    """What the modules of a room may import beside each other: rooms of ours, and libraries."""

    rooms: str = ""
    libraries: str = ""


NUMPY = "numpy msgspec"
DRAWING = "matplotlib"
TRACED = "numpy msgspec onnx_ir onnxscript torch transformers"
BELOW_SESSION = (
    "runtime.errors runtime.bundle runtime.bundle.hub runtime.engines runtime.engines.protocol "
    "runtime.chain "
    "runtime.texts"
)
ON_SESSION = f"{BELOW_SESSION} runtime.session"
# What the exporter may know of the runtime: its public names, the contract, and how to print.
SHARED = "runtime runtime.errors runtime.bundle runtime.bundle.hub runtime.console"
LOADED = f"{SHARED} exporter.reason exporter.quiet exporter.checkpoints"
MODELLED = f"{LOADED} exporter.encoders exporter.models exporter.heads exporter.policies"
PLANNED = f"{MODELLED} exporter.options exporter.formats exporter.plan"
TRACED_MODELS = f"{PLANNED} exporter.trace exporter.segments graph_passes"

# A module belongs to the longest name that its own starts with.
HOUSE: Mapping[str, Room] = {
    "runtime": Room(f"{ON_SESSION} runtime.checks runtime.points"),
    "runtime.errors": Room(),
    "runtime.bundle": Room("runtime.errors runtime.bundle.hub", NUMPY),
    "runtime.bundle.hub": Room("runtime.errors runtime.bundle", "huggingface_hub"),
    "runtime.engines.protocol": Room("runtime.errors runtime.bundle", NUMPY),
    "runtime.engines": Room("runtime.errors runtime.bundle runtime.engines.protocol", NUMPY),
    "runtime.engines.onnxruntime": Room(
        "runtime.errors runtime.bundle runtime.engines.protocol runtime.engines",
        f"{NUMPY} onnxruntime",
    ),
    "runtime.engines.openvino": Room(
        "runtime.errors runtime.bundle runtime.engines.protocol runtime.engines",
        f"{NUMPY} openvino",
    ),
    "runtime.engines.plans": Room(
        "runtime.errors runtime.bundle runtime.engines.protocol runtime.engines",
        f"{NUMPY} cuda",
    ),
    "runtime.engines.tensorrt_rtx": Room(
        "runtime.errors runtime.bundle runtime.engines.protocol runtime.engines "
        "runtime.engines.plans",
        f"{NUMPY} tensorrt_rtx",
    ),
    "runtime.engines.tensorrt": Room(
        "runtime.errors runtime.bundle runtime.engines.protocol runtime.engines "
        "runtime.engines.plans",
        f"{NUMPY} tensorrt",
    ),
    "runtime.compile": Room(
        "runtime.errors runtime.bundle runtime.engines runtime.engines.plans", "msgspec numpy"
    ),
    "runtime.chain": Room("runtime.errors runtime.bundle runtime.engines.protocol", NUMPY),
    "runtime.texts": Room("runtime.errors runtime.bundle runtime.chain", f"{NUMPY} tokenizers"),
    "runtime.opening": Room(BELOW_SESSION),
    "runtime.session": Room(f"{BELOW_SESSION} runtime.opening", NUMPY),
    "runtime.plots": Room("runtime.errors", DRAWING),
    "runtime.console": Room("runtime.errors", "click rich"),
    "runtime.points": Room(f"{ON_SESSION} runtime.plots", f"{NUMPY} scipy"),
    "runtime.bench": Room(f"{ON_SESSION} runtime.plots", NUMPY),
    "runtime.report": Room(
        f"{ON_SESSION} runtime.plots runtime.points", "numpy msgspec jinja2 markupsafe matplotlib"
    ),
    "runtime.checks": Room(ON_SESSION, f"{NUMPY} tokenizers onnx google"),
    "runtime.commands": Room(
        f"{ON_SESSION} runtime.console runtime.plots runtime.points runtime.report runtime.bench "
        "runtime.checks runtime.compile runtime.engines.plans",
        "click rich msgspec",
    ),
    "graph_passes": Room("", "numpy onnx_ir onnxscript"),
    "exporter": Room("runtime.errors exporter.options exporter.pipeline"),
    "exporter.reason": Room(),
    "exporter.quiet": Room("", "transformers"),
    "exporter.options": Room(f"{SHARED} exporter.policies exporter.formats", "click"),
    "exporter.checkpoints": Room(
        f"{SHARED} exporter.reason exporter.quiet",
        "numpy msgspec torch transformers safetensors tokenizers huggingface_hub h5py",
    ),
    "exporter.policies": Room(f"{SHARED} exporter.models", TRACED),
    "exporter.heads": Room(f"{SHARED} exporter.encoders exporter.models", TRACED),
    "exporter.models": Room(LOADED + " exporter.heads exporter.encoders exporter.trace", TRACED),
    "exporter.encoders": Room(LOADED + " exporter.models exporter.trace", TRACED),
    "exporter.formats": Room(MODELLED, TRACED),
    "exporter.plan": Room(PLANNED),
    "exporter.translations": Room("exporter.encoders", TRACED),
    "exporter.trace": Room(f"{MODELLED} exporter.translations graph_passes", TRACED),
    "exporter.segments": Room(f"{PLANNED} exporter.trace graph_passes", TRACED),
    "exporter.exits": Room(f"{SHARED} exporter.options"),
    "exporter.rows": Room(f"{SHARED} exporter.reason", "numpy"),
    "exporter.precision": Room(f"{TRACED_MODELS} exporter.rows", TRACED),
    "exporter.verify": Room(
        f"{TRACED_MODELS} exporter.rows exporter.precision", f"{TRACED} onnxruntime"
    ),
    "exporter.write": Room(
        f"{TRACED_MODELS} exporter.rows exporter.precision exporter.verify", TRACED
    ),
    "exporter.pipeline": Room(
        f"{TRACED_MODELS} exporter.exits exporter.rows exporter.precision exporter.verify "
        "exporter.write",
        "msgspec",
    ),
    "exporter.commands": Room(
        f"{SHARED} exporter exporter.options exporter.pipeline exporter.formats exporter.policies",
        "click rich msgspec optimum",
    ),
    "exporter.optimum_register": Room("exporter.commands"),
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported_names(source: str) -> Iterator[str]:
    """Every module, and every name of a module, that is imported, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_file(name: str) -> str | None:
    """The module of ours that an imported name is, or is defined in."""
    own = name.removeprefix("effbert.")
    if own == name:
        return None
    return own if own in FILES else own.rpartition(".")[0]


def room_of(module: str) -> str:
    return max((room for room in HOUSE if module == room or module.startswith(f"{room}.")), key=len)


def breaches(module: str, source: str) -> set[str]:
    """What a module imports and may not."""
    own = room_of(module)
    rooms, libraries = HOUSE[own].rooms.split(), HOUSE[own].libraries.split()
    found = set()
    for name in imported_names(source):
        file, library = imported_file(name), name.partition(".")[0]
        if file is None:
            allowed = library in libraries or library in sys.stdlib_module_names
        else:
            allowed = file in FILES and room_of(file) in (own, *rooms)
        if not allowed:
            found.add(name)
    return found


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    assert not breaches(module, FILES[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "module, line, breach",
    [
        ("runtime.chain.loop", "import torch", True),
        ("runtime.chain.loop", "def f():\n    from torch import Tensor", True),
        ("runtime.chain.loop", "from effbert import exporter", True),
        ("runtime.chain.loop", "from effbert.runtime.session import Session", True),
        ("runtime.chain.loop", "from . import errors", True),
        ("runtime.engines.openvino.engine", "import onnxruntime", True),
        ("runtime.engines.onnxruntime.engine", "import onnxruntime", False),
        ("runtime.chain.loop", "from effbert.runtime.errors import InputError", False),
        ("exporter.write.card", "from effbert.runtime import Session", False),
        ("exporter.write.card", "from effbert.runtime.chain.loop import Chain", True),
        ("graph_passes.cut", "from effbert.runtime.errors import InputError", True),
    ],
)
def test_a_forbidden_import_is_seen_however_it_is_written(
    module: str, line: str, breach: bool
) -> None:
    assert bool(breaches(module, line)) is breach


def test_no_file_knows_itself_through_others() -> None:
    graph = {
        module: {
            file
            for name in imported_names(path.read_text(encoding="utf-8"))
            if (file := imported_file(name)) is not None and file != module
        }
        for module, path in FILES.items()
    }
    assert not circle(graph)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The files of one circle, in order; none if there is none."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if found := visit(other, [*trail, module]):
                return found
        done.add(module)
        return []

    return next((found for module in graph if (found := visit(module, []))), [])


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize("package", ["exporter", "runtime"])
def test_at_most_ten_files_lie_at_the_root_of_a_package(package: str) -> None:
    assert len([path for path in (ROOT / package).iterdir() if path.is_file()]) <= 10


# Rooms that may use one name for one thing: a paper's system and its policy, the two pipelines, a
# command and what it runs, the engine of each library.
NAMESAKES = (
    {"exporter.formats", "exporter.policies"},
    {"exporter", "graph_passes"},
    {"runtime.commands", "runtime.points"},
)


def test_no_two_modules_have_the_same_name_for_different_things() -> None:
    rooms: dict[str, set[str]] = {}
    for module, path in FILES.items():
        room, _, name = module.rpartition(".")
        if path.name != "__init__.py" and (room, name) != (
            f"runtime.engines.{room[16:]}",
            "engine",
        ):
            rooms.setdefault(name, set()).add(room)
    shared = {name: found for name, found in rooms.items() if len(found) > 1}
    assert {name: found for name, found in shared.items() if found not in NAMESAKES} == {}


# A file of this name does the same for its own folder or system.
COMMON = {"__init__", "pipeline", "engine"}
PAPERS = {"exporter.formats", "exporter.policies"}  # a system may have a format and a policy


def test_a_file_name_means_one_thing() -> None:
    rooms: dict[str, set[str]] = {}
    for module, path in FILES.items():
        if path.stem not in COMMON:
            rooms.setdefault(path.stem, set()).add(module.rpartition(".")[0])
    assert not {name for name, found in rooms.items() if len(found) > 1 and found != PAPERS}
