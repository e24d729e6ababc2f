"""A search that is interrupted anywhere goes on as if it had not been."""

from pathlib import Path

import pytest

from effbert.runtime.errors import InputError
from effbert.runtime.points.evolution import Evaluated, Settings, evolve
from effbert.runtime.points.genes import Gene, Space
from effbert.runtime.points.store import Header, Store, Task, create_store, resume_store

SPACE = Space(layers=4, tokens=20, levels=3)
SETTINGS = Settings(population=6, mutations=5, crossovers=5, seed=7)
TASK = Task("bundle", "data", ("lengths", "threshold"), "flops", SETTINGS)
HEADER = Header(TASK, 20, (0.25, 0.5))


class Stop(Exception):
    """What ends a search early here."""


def judge(gene: Gene, generation: int, method: str) -> Evaluated:
    """A made-up landscape: more tokens cost more and answer better, some better than others."""
    cost = sum(gene.lengths) / (1 + gene.level)
    return Evaluated(gene, gene.lengths[0] + cost % 7, cost, generation, method)


def run(store: Store, budget: int = 10**9, generations: int = 3) -> list[Evaluated]:
    """Searches until `budget` genes were judged that the store did not know."""
    fresh = 0

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
    run(create_store(path, HEADER))
    return path.read_bytes()


@pytest.mark.parametrize("budget", [0, 1, 4, 9, 17])
@pytest.mark.parametrize("torn", [b"", b'{"gene":{"len', b"\xff"])
def test_an_interrupted_search_ends_as_the_whole_one(
    uninterrupted: bytes, budget: int, torn: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    with pytest.raises(Stop):
        run(create_store(path, HEADER), budget)
    assert path.read_bytes().count(b"\n") == 1 + budget
    with path.open("ab") as file:
        file.write(torn)
    store = resume_store(path, TASK)
    assert store is not None
    assert store.header == HEADER
    assert len(store.known) == budget
    run(store)
    assert path.read_bytes() == uninterrupted


def test_a_finished_search_evaluates_nothing_again_and_can_be_continued(
    uninterrupted: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    path.write_bytes(uninterrupted)
    run(resume_store(path, TASK), budget=0)
    assert path.read_bytes() == uninterrupted
    run(resume_store(path, TASK), generations=5)
    assert path.read_bytes().startswith(uninterrupted)
    assert len(path.read_bytes()) > len(uninterrupted)


def test_every_gene_is_evaluated_once(uninterrupted: bytes) -> None:
    genes = [line.split(b'"quality"')[0] for line in uninterrupted.splitlines()[1:]]
    assert len(set(genes)) == len(genes) > 20


def test_seeds_lead_elsewhere() -> None:
    found = [
        {item.gene for item in evolve(SPACE, Settings(seed=seed, population=6), 1, judge)}
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


def test_a_space_without_new_genes_ends() -> None:
    assert len(evolve(Space(layers=1, tokens=3, levels=1), Settings(), 5, judge)) == 1


@pytest.mark.parametrize("content", [None, b"", b'{"task":'])
def test_without_a_whole_first_line_there_is_nothing_to_resume(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    if content is not None:
        path.write_bytes(content)
    assert resume_store(path, TASK) is None
    create_store(path, HEADER).close()


def test_an_earlier_search_is_not_overwritten(tmp_path: Path) -> None:
    create_store(tmp_path / "store", HEADER).close()
    with pytest.raises(InputError, match="holds an earlier search; go on with --resume"):
        create_store(tmp_path / "store", HEADER)


@pytest.mark.parametrize(
    "line, broken",
    [(1, b"{}"), (1, b"PK\x03\x04"), (2, b"\xff\xff"), (3, b'{"gene":{"lengths":"many"}}')],
)
def test_damage_is_named_with_its_line(
    uninterrupted: bytes, line: int, broken: bytes, tmp_path: Path
) -> None:
    lines = uninterrupted.splitlines()
    lines[line - 1] = broken
    path = tmp_path / "store"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(InputError, match=f"line {line} is not what a search writes"):
        resume_store(path, TASK)
    assert path.read_bytes() == b"\n".join(lines) + b"\n"


@pytest.mark.parametrize(
    "other, named",
    [
        (Task("another", "data", TASK.over, "flops", SETTINGS), "bundle"),
        (Task("bundle", "more", ("lengths",), "flops", SETTINGS), "data, over"),
        (Task("bundle", "data", TASK.over, "flops", Settings(seed=8)), "population, .* seed"),
    ],
)
def test_another_search_is_not_continued(other: Task, named: str, tmp_path: Path) -> None:
    create_store(tmp_path / "store", HEADER).close()
    with pytest.raises(InputError, match=f"from a search with another {named}; give the same"):
        resume_store(tmp_path / "store", other)
