"""Who may import whom: only the exporter knows the other two packages and torch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ONNX = {"onnx", "onnx_ir", "onnxscript"}
TRAINING = {"torch", "transformers", "safetensors", "huggingface_hub", "optimum"}
FORBIDDEN = {
    "runtime": ONNX | TRAINING | {"effbert.exporter", "effbert.graph_passes"},
    "graph_passes": TRAINING
    | {"onnx", "onnxruntime", "tokenizers", "effbert.exporter", "effbert.runtime"},
}
# `effbert validate --deep` reads graphs, and imports this module only then.
EXCEPTIONS = {"runtime/deep.py": {"onnx"}}
NAMES = [
    path.relative_to(ROOT).as_posix()
    for folder in FORBIDDEN
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def imported_modules(source: str) -> Iterator[str]:
    """Every module an import statement names, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def breaches(source: str, forbidden: set[str]) -> set[str]:
    return {
        module
        for module in imported_modules(source)
        if module.startswith(".")
        or any(module == name or module.startswith(f"{name}.") for name in forbidden)
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_module_imports_only_what_its_folder_may(name: str) -> None:
    forbidden = FORBIDDEN[name.partition("/")[0]] - EXCEPTIONS.get(name, set())
    assert not breaches((ROOT / name).read_text(encoding="utf-8"), forbidden)


@pytest.mark.parametrize(
    "line, breach",
    [
        ("import torch", True),
        ("import torch.nn as nn", True),
        ("def f():\n    from torch import Tensor", True),
        ("from effbert import exporter", True),
        ("from effbert.exporter.cli import main", True),
        ("from . import errors", True),
        ("import onnxruntime", False),
        ("from effbert.runtime.errors import InputError", False),
    ],
)
def test_a_forbidden_import_is_seen_however_it_is_written(line: str, breach: bool) -> None:
    assert bool(breaches(line, FORBIDDEN["runtime"])) is breach
