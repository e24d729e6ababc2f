"""The commands and the code in the documentation run as printed.

Fast tests read every command: options, extras, targets and files exist. Slow ones run every page in
an empty folder, with tiny checkpoints and texts under the names that the page uses.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner

from effbert.exporter.commands.export import export_command
from effbert.runtime.commands import effbert
from effbert.runtime.engines.table import ENGINES
from stand_ins import STAND_INS, TEXTS, grow

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *(ROOT / name / "README.md" for name in ("samples", "benchmarks")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
LANGUAGES = ("bash", "python", "text")
FEW = 3  # blocks that may be marked as not run
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"<!-- (not run|excerpt): (.+) -->\n$")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
FILE = re.compile(r"`((?:exporter|graph_passes|runtime|samples|benchmarks|tests|docs)/[\w./]+)`")


class Block(NamedTuple):
    """A fenced block of a page, with what the comment above it says."""

    language: str
    text: str
    marker: str
    note: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page in their order."""
    if len(re.findall(r"^```", page, re.MULTILINE)) % 2:
        raise ValueError("A block is not closed.")
    for fence in FENCE.finditer(page):
        marker = MARKER.search(page[: fence.start()])
        yield Block(fence[1], fence[2], *(marker.groups() if marker else ("", "")))


def commands(block: str) -> Iterator[list[str]]:
    """The commands of a bash block as words: comments away, continued lines and && resolved."""
    for line in block.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word != "&&":
                words.append(word)
            elif words:
                yield words
                words = []


# --- reading a command ---------------------------------------------------------------------------


def check(words: list[str]) -> None:
    """Raise an error unless the command exists and has these options."""
    while "=" in words[0]:  # a variable of the environment
        words = words[1:]
    name, *arguments = words
    if name not in CHECKS:
        raise ValueError(f"{name} is no command that the documentation may use.")
    CHECKS[name](arguments)


def check_export(arguments: list[str]) -> None:
    export_command.make_context("effbert-export", [*arguments])


def check_effbert(arguments: list[str]) -> None:
    command = effbert.get_command(click.Context(effbert), arguments[0])
    if command is None:
        raise ValueError(f"There is no command effbert {arguments[0]}.")
    command.make_context(arguments[0], arguments[1:])


def check_script(arguments: list[str]) -> None:
    script = ROOT / arguments[0]
    if not script.is_file():
        raise ValueError(f"There is no script {arguments[0]}.")
    sources = "".join(path.read_text(encoding="utf-8") for path in script.parent.glob("*.py"))
    for word in arguments[1:]:
        if word.startswith("--") and f'"{word}"' not in sources:
            raise ValueError(f"{arguments[0]} has no option {word}.")


def check_pip(arguments: list[str]) -> None:
    if arguments[0] != "install":
        raise ValueError(f"pip {arguments[0]} is not checked.")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = project.partition("optional-dependencies]")[2]
    extras = set(re.findall(r"^([\w-]+) = \[", declared, re.M))
    for word in " ".join(arguments[1:]).replace(",", "[").split("[")[1:]:
        if word.partition("]")[0] not in extras:
            raise ValueError(f"There is no extra {word}.")


def check_make(arguments: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for target in arguments:
        if target not in targets:
            raise ValueError(f"There is no make target {target}.")


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "effbert-export": check_export,
    "effbert": check_effbert,
    "python": check_script,
    "pip": check_pip,
    "make": check_make,
    "ls": lambda arguments: None,
}


# --- what the commands find ----------------------------------------------------------------------


def prepare(folder: Path, page: list[Block]) -> None:
    """Put what the commands of a page name into its folder, except what they make themselves."""
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    for name in ("samples", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    of_page = [
        words for block in page if block.language == "bash" for words in commands(block.text)
    ]
    for words in of_page:
        for word in words:
            if word in STAND_INS and not (folder / word).exists():
                STAND_INS[word](folder / word)
    for name in ("./my-deebert", "./my-model"):
        if (folder / name).exists():
            grow(folder / name)
    exported = {Path(words[2]) for words in of_page if words[0] == "effbert-export"}
    if any(words[0] == "effbert" for words in of_page) and Path("bundle") not in exported:
        STAND_INS["./my-deebert"](folder / "source")
        run(folder, ["effbert-export", "source", "bundle", "--length-adaptive"])


# --- running a page ------------------------------------------------------------------------------

# Added to a command: less to try, and tiny checkpoints may round more than real ones.
ADDED = {
    "effbert tune": ("--generations", "0", "--population", "2"),
    "effbert bench": ("--rounds", "1"),
    "effbert-export int8": ("--min-agreement", "0.5"),
}
ONLY_PARSED = """
import argparse, os, runpy, sys
parse = argparse.ArgumentParser.parse_args
def parse_and_leave(self, *arguments):
    parse(self, *arguments)
    sys.exit(0)
argparse.ArgumentParser.parse_args = parse_and_leave
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(os.path.realpath(sys.argv[0])))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
OURS = {"effbert": effbert, "effbert-export": export_command}


# Engines that need a GPU; building plans for them does not.
ON_A_GPU = {name for name, entry in ENGINES.items() if entry.on_request}


def run(folder: Path, words: list[str]) -> None:
    """Run a command of a page; those that take long or change the machine were only checked."""
    if words[0] in ("pip", "make") or (words[1:2] != ["compile"] and ON_A_GPU & {*words}):
        return
    for key, more in ADDED.items():
        words += more if words[0] == key.split()[0] and key.split()[1] in words else ()
    if words[0] in OURS:  # in this process, where traces come from the disk
        result = CliRunner().invoke(OURS[words[0]], words[1:])
        assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}"
        return
    if words[0] == "python":
        only_parsed = ("-c", ONLY_PARSED) if words[1].startswith("benchmarks/") else ()
        words = [sys.executable, *only_parsed, *words[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"


def with_blocks() -> list[object]:
    """Pages with something to run."""
    return [name for name, path in PAGES.items() if FENCE.search(path.read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", with_blocks())
def test_a_page_runs_as_printed(page, tmp_path, monkeypatch):
    if page == "docs/tensorrt.md":
        pytest.importorskip("tensorrt_rtx")
    found = [*blocks(PAGES[page].read_text(encoding="utf-8"))]
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):  # of compiled plans
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    prepare(tmp_path, found)
    names: dict[str, object] = {}
    for block in found:
        if block.marker or block.language == "text":
            continue
        if block.language == "python":
            if any(f'engine="{name}"' in block.text for name in ON_A_GPU):
                continue
            exec(compile(block.text, page, "exec"), names)  # the code of our own pages
            continue
        for words in commands(block.text):
            run(tmp_path, words)


# --- reading all pages ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_commands_options_and_excerpts_of_a_page_exist(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        Path(name).write_text(text)
    for block in blocks(PAGES[page].read_text(encoding="utf-8")):
        assert block.language in LANGUAGES, block.text
        if block.marker == "excerpt":
            source = {line.strip() for line in (ROOT / block.note).read_text().splitlines()}
            assert {line.strip() for line in block.text.splitlines()} <= source
        elif block.language == "bash" and not block.marker:
            for words in commands(block.text):
                check(words)


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    text = PAGES[page].read_text(encoding="utf-8")
    linked = [(PAGES[page].parent / link).resolve() for link in LINK.findall(text)]
    named = [ROOT / name for name in FILE.findall(text)]
    assert not [str(path) for path in (*linked, *named) if not path.exists()]


def test_blocks_that_are_not_run_are_few_and_say_why():
    pages = (path.read_text(encoding="utf-8") for path in PAGES.values())
    reasons = [block.note for page in pages for block in blocks(page) if block.marker == "not run"]
    assert len(reasons) <= FEW
    assert all(len(reason) > 15 for reason in reasons)


# --- the reader itself ---------------------------------------------------------------------------


def test_blocks_and_commands_are_found():
    page = (
        "# Page\n\n<!-- not run: needs a GPU that you have -->\n```bash\nmake venv\n```\n\n"
        '```bash\nA=1 make lint && effbert run ./b \\\n    "A text."  # so\n\nls\n```\n'
        "text\n```text\nfree\n```\n"
    )
    first, second, third = blocks(page)
    assert first == ("bash", "make venv\n", "not run", "needs a GPU that you have")
    assert [*commands(second.text)] == [
        ["A=1", "make", "lint"],
        ["effbert", "run", "./b", "A text."],
        ["ls"],
    ]
    assert third == ("text", "free\n", "", "")


def test_an_open_block_is_an_error():
    with pytest.raises(ValueError, match="not closed"):
        [*blocks("page\n```bash\nmake venv\n")]


@pytest.mark.parametrize(
    "wrong",
    [
        "effbert-export ./my-deebert ./bundle --percision int8",
        "effbert-export ./my-deebert ./bundle --precision int9",
        "effbert-export ./my-deebert",
        "effbert run ./bundle --nob threshold=0.3 text",
        "effbert rum ./bundle text",
        "python samples/report.py checkpoint test.csv report bundle --truncat x",
        "python samples/calibrat.py bundle",
        'pip install "effbert[export,gpus]"',
        "make demos",
        "efbert run ./bundle text",
    ],
)
def test_a_misspelt_command_is_an_error(wrong):
    (words,) = commands(wrong)
    with pytest.raises((ValueError, click.ClickException)):
        check(words)


def test_a_command_that_fails_fails_the_page(tmp_path):
    with pytest.raises(AssertionError, match="effbert inspect"):
        run(tmp_path, ["effbert", "inspect", "./nothing-here"])


def test_a_stand_in_is_made_under_the_name_that_the_page_uses(tmp_path):
    prepare(tmp_path, [*blocks("```bash\neffbert-export ./my-pabee ./bundle\n```\n")])
    assert (tmp_path / "my-pabee" / "config.json").exists()
    assert not (tmp_path / "bundle").exists()
