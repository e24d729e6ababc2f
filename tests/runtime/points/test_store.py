"""An evolution that is interrupted anywhere goes on as if it had not been."""

import multiprocessing
from pathlib import Path

import pytest

from effbert.runtime.errors import ResourceError
from effbert.runtime.points.evolution import Evaluated, Outcome, Settings, evolve
from effbert.runtime.points.genes import Gene, Space
from effbert.runtime.points.store import Store

SPACE = Space(layers=4, tokens=20)
SETTINGS = Settings(population=6, mutations=5, crossovers=5, seed=7)


class Stop(Exception):
    """What ends a search early here."""


def judge(gene: Gene, generation: int, method: str) -> Evaluated:
    """A made-up landscape: more tokens cost more and answer better, some better than others."""
    cost = float(sum(gene))
    outcomes = tuple(Outcome(gene[0] + cost % 7 - level, cost / (1 + level)) for level in range(3))
    return Evaluated(gene, outcomes, generation, method)


def run(path: Path, budget: int = 10**9, generations: int = 3) -> list[Evaluated]:
    """Searches until `budget` genes were judged that the store did not know."""
    fresh = 0
    store = Store(path)

    def evaluate(gene: Gene, generation: int, method: str) -> Evaluated:
        nonlocal fresh
        if gene not in store.known:
            if fresh == budget:
                raise Stop
            fresh += 1
            store.add(judge(gene, generation, method))
        return store.known[gene]

    try:
        return evolve(SPACE, SETTINGS, generations, evaluate)
    finally:
        store.close()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "store"
    run(path)
    return path.read_bytes()


@pytest.mark.parametrize("budget", [0, 1, 4, 9, 17])
@pytest.mark.parametrize("torn", [b"", b'{"gene":[9,', b"\xff", b"{}\n", b"PK\x03\x04\n"])
def test_an_interrupted_evolution_ends_as_the_whole_one(
    uninterrupted: bytes, budget: int, torn: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    with pytest.raises(Stop):
        run(path, budget)
    assert path.read_bytes().count(b"\n") == budget
    with path.open("ab") as file:
        file.write(torn)
    run(path)
    assert path.read_bytes() == uninterrupted


def test_lines_behind_a_damaged_one_are_evaluated_again(
    uninterrupted: bytes, tmp_path: Path
) -> None:
    lines = uninterrupted.splitlines(keepends=True)
    lines[2] = b"\xff\xff\n"
    path = tmp_path / "store"
    path.write_bytes(b"".join(lines))
    run(path)
    assert path.read_bytes() == uninterrupted


def test_a_finished_evolution_evaluates_nothing_again_and_can_be_continued(
    uninterrupted: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    path.write_bytes(uninterrupted)
    run(path, budget=0)
    assert path.read_bytes() == uninterrupted
    run(path, generations=5)
    assert path.read_bytes().startswith(uninterrupted)
    assert len(path.read_bytes()) > len(uninterrupted)


def test_every_gene_is_evaluated_once(uninterrupted: bytes) -> None:
    genes = [line.split(b'"outcomes"')[0] for line in uninterrupted.splitlines()]
    assert len(set(genes)) == len(genes) > 20


def test_a_second_process_waits_and_finds_what_the_first_has_found(
    uninterrupted: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=run, args=(path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert path.read_bytes() == uninterrupted


def test_seeds_lead_elsewhere() -> None:
    found = [
        {item.gene for item in evolve(SPACE, Settings(seed=seed, population=6), 1, judge)}
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


def test_a_space_without_new_genes_ends() -> None:
    assert len(evolve(Space(layers=1, tokens=3), Settings(), 5, judge)) == 1


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        Store(tmp_path / "file" / "store")
