"""The steps of the demo: their order, what is done again, and what it says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.fixture(autouse=True)
def samples_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(SAMPLES))


def test_the_demo_makes_every_bundle_before_it_reports_on_all_of_them(monkeypatch):
    demo = importlib.import_module("demo")
    monkeypatch.setattr(demo, "package_folder", Path)
    for lengths, report in ((False, "report"), (True, "report lengths")):
        steps = demo.steps(lengths)
        made = {name: step[2] for name, step in steps.items() if name.startswith("export ")}
        assert set(made.values()) < set(steps[report])
        assert made["export int8"].endswith("int8_bundle")  # benchmarks/static.py looks for it
        names = list(steps)
        for name, bundle in made.items():
            uses = [other for other in names if bundle in steps[other] and other != name]
            assert all(names.index(name) < names.index(other) for other in uses)
            assert {report} < set(uses)  # and a step that chooses operating points


def test_the_lengths_of_the_demo_come_after_its_own_steps(monkeypatch):
    demo = importlib.import_module("demo")
    monkeypatch.setattr(demo, "package_folder", Path)
    short, long = demo.steps(), demo.steps(lengths=True)
    assert len(short) == 9
    assert list(long.items())[:9] == list(short.items())
    assert not any("lengths" in " ".join(command) for command in short.values())
    assert set(demo.TYPICAL) == set(long)


def test_the_demo_ends_with_a_page_on_texts_that_nothing_was_chosen_on(monkeypatch):
    demo = importlib.import_module("demo")
    monkeypatch.setattr(demo, "package_folder", Path)
    name, command = list(demo.steps().items())[-1]
    assert name == "page"
    assert command[1:3] == ["report", "build/demo/exits_bundle"]
    assert "build/demo/test.csv" in command
    assert command[-1].endswith("report.html")


def test_what_is_left_is_estimated_from_what_was_measured():
    demo = importlib.import_module("demo")
    names = ["export int8", "report"]
    typical = sum(demo.TYPICAL[name] for name in names)
    assert demo.left(names, {}) == f"about {typical / 60:.0f} min"
    slow = {"train exits": 3 * demo.TYPICAL["train exits"]}
    assert int(demo.left(names, slow).split()[1]) > typical / 60
    assert demo.left(["plot"], {}) == "less than a minute"


class Demo:
    """The demo with steps that append their names to a file; `run` gives what it holds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.demo = importlib.import_module("demo")
        self.log = folder / "log"
        self.done = folder / "build/demo/done"
        self.commands = {name: self.command(name) for name in ("first", "second", "third")}
        monkeypatch.setattr(self.demo, "ROOT", folder)
        monkeypatch.setattr(self.demo, "steps", lambda lengths=False: self.commands)
        (folder / "build/demo").mkdir(parents=True)
        (folder / "build/demo/table.md").write_text("table")

    def command(self, says: str, code: int = 0) -> list[str]:
        append = f"open({str(self.log)!r}, 'a').write('{says} ')"
        return [sys.executable, "-c", f"{append}; raise SystemExit({code})"]

    def run(self) -> str:
        self.log.write_text("")
        self.demo.main()
        return self.log.read_text().strip()


def test_the_demo_skips_what_was_done_and_repeats_what_depends_on_a_change(tmp_path, monkeypatch):
    demo = Demo(tmp_path, monkeypatch)
    assert demo.run() == "first second third"
    assert demo.run() == ""
    demo.commands["second"] = demo.command("changed")
    assert demo.run() == "changed third"


def test_the_demo_says_where_it_stands(tmp_path, monkeypatch, capsys):
    demo = Demo(tmp_path, monkeypatch)
    demo.run()
    said = capsys.readouterr().out
    assert "[1/3] first: " in said
    assert re.search(r"\[3/3\] third: took \d+ s", said)
    demo.run()
    assert "[2/3] second: done before" in capsys.readouterr().out


def test_the_demo_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    demo = Demo(tmp_path, monkeypatch)
    works, demo.commands["second"] = demo.commands["second"], demo.command("fails", code=3)
    with pytest.raises(SystemExit, match="second failed with exit code 3"):
        demo.run()
    demo.commands["second"] = works
    assert demo.run() == "second third"
