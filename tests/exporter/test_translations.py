"""A program is decomposed where torch must, and else translated as it was traced."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from torch.export import ExportedProgram

from effbert.exporter import trace as tracing
from effbert.exporter import translations
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import choose_format
from effbert.exporter.options import ExportOptions
from effbert.exporter.plan import make_plan
from families import write_family


def operators(folder: Path) -> Counter[str]:
    opened = open_checkpoint(folder)
    found = choose_format("auto", opened.name, opened.shapes, opened.config)
    [model], _ = make_plan(opened, found, ExportOptions())
    return Counter(node.op_type for node in tracing.trace(model, 20).graph.graph)


@pytest.fixture
def decomposed(monkeypatch: pytest.MonkeyPatch) -> list[ExportedProgram]:
    """Programs that torch decomposes."""
    programs = []
    decompose = ExportedProgram.run_decompositions

    def spy(program: ExportedProgram, table: object = None) -> ExportedProgram:
        programs.append(program)
        return decompose(program, table)

    monkeypatch.setattr(ExportedProgram, "run_decompositions", spy)
    return programs


FAMILIES = ["bert", "albert", "modernbert"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_is_that_of_a_decomposed_program(
    tmp_path: Path,
    family: str,
    decomposed: list[ExportedProgram],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_family(tmp_path, family, "text-classification")
    direct = operators(tmp_path)
    assert not decomposed
    monkeypatch.setattr(tracing, "only_needed_decompositions", nullcontext)
    assert operators(tmp_path) == direct
    assert len(decomposed) == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", ["deberta-v2"])
def test_operators_that_write_to_their_inputs_are_decomposed(
    tmp_path: Path, family: str, decomposed: list[ExportedProgram]
) -> None:
    write_family(tmp_path, family, "text-classification")
    assert operators(tmp_path)
    assert len(decomposed) == 1


@pytest.mark.slow
def test_an_operator_without_translation_is_decomposed_in_a_second_trace(
    tmp_path: Path, decomposed: list[ExportedProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, "distilbert", "text-classification")
    monkeypatch.setattr(translations, "_is_final", lambda program, table: True)
    known = {name: each for name, each in tracing.TRANSLATIONS.items() if "to" not in str(name)}
    monkeypatch.setattr(tracing, "TRANSLATIONS", known)
    assert operators(tmp_path)
    assert len(decomposed) == 1


def test_torch_is_left_as_it_was() -> None:
    decompose = ExportedProgram.run_decompositions
    with suppress(KeyError), translations.only_needed_decompositions():
        assert ExportedProgram.run_decompositions is not decompose
        raise KeyError
    assert ExportedProgram.run_decompositions is decompose
