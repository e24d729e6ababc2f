"""The two packages users import say in `__all__` what they offer, and explain it."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

PACKAGES = {"effbert.exporter": {"export"}, "effbert.runtime": {"Session"}}


def names_in_source(package: str) -> set[str]:
    """Public names of effbert that the `__init__.py` imports or defines."""
    init = Path(importlib.import_module(package).__file__)
    names = set()
    for node in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("effbert."):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("package", PACKAGES)
def test_all_lists_every_public_name(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) >= names_in_source(package) | PACKAGES[package]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_listed_name_exists_and_has_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    offered = {name: getattr(module, name) for name in module.__all__}
    assert len(offered) == len(module.__all__), "a name is listed twice"
    undocumented = [
        name
        for name, value in offered.items()
        if (inspect.isfunction(value) or inspect.isclass(value)) and not value.__doc__
    ]
    assert not undocumented


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_is_not_there_is_an_ordinary_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module(package).no_such_name  # noqa: B018
