"""`effbert report`: what the page says is true, and a bundle can do no more than be read."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bundle_edits import at, edit_manifest
from effbert.runtime import Session
from effbert.runtime.commands import effbert
from effbert.runtime.points import one_pass
from task_bundles import build_question_bundle, build_token_bundle, report_layers_of_tokens
from tiny_bundle import build_tiny_bundle
from tune_command import summary, texts

Reported = Callable[[str], tuple[Path, Path]]
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Elements(HTMLParser):
    """What a browser would make of a page: tags with their attributes, and headings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def report(bundle: Path, page: Path, *arguments: str) -> Result:
    command = ["report", str(bundle), "--output", str(page), *arguments]
    if "--data" in arguments:
        command += ["--threads", "1"]
    return CliRunner().invoke(effbert, command)


@pytest.fixture(scope="module")
def said(
    reported: Reported, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], str]:
    """What the command prints with --json, and its page."""
    bundle, data = reported("entropy")
    page = tmp_path_factory.mktemp("said") / "page.html"
    found = summary(report(bundle, page, "--data", str(data), "--json"))
    return found, page.read_text(encoding="utf-8")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are left empty: drawing takes most of the time."""
    monkeypatch.setattr("effbert.runtime.report.page.render", lambda plot, theme, kind: b"")


@pytest.mark.parametrize("policy", ["entropy", "patience"])
@pytest.mark.usefixtures("undrawn")
def test_points_are_those_of_a_session(policy: str, reported: Reported, tmp_path: Path) -> None:
    bundle, data = reported(policy)
    page = tmp_path / "page.html"
    examples = summary(report(bundle, page, "--data", str(data), "--json"))["examples"]
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    labels = np.array([row["label"] for row in rows])
    for way in [examples["full"], *examples["points"]]:
        point = None if way["name"] == "full depth" else way["name"]
        with Session(bundle, threads=1, operating_point=point) as session:
            answers = session([row["text"] for row in rows])
        right = np.array([answer.label_id for answer in answers]) == labels
        layers = np.array([answer.exit_layer for answer in answers])
        assert way["quality"] == pytest.approx(right.mean())
        assert way["mean_layer"] == pytest.approx(layers.mean())
        assert way["shares"] == pytest.approx([(layers == each).mean() for each in (1, 2, 3)])
        if point:
            stay = (np.flatnonzero(layers == 3) + 1).tolist()
            assert (way["stay"], way["stay_lines"]) == (len(stay), stay)
        column = [*examples["points"], examples["full"]].index(way)
        column = 0 if point is None else column + 1
        for group in examples["classes"]:
            here = labels == ("negative", "neutral", "positive").index(group["name"])
            assert group["rows"] == here.sum()
            assert group["right"][column] == pytest.approx(right[here].mean())
            assert group["layers"][column] == pytest.approx(layers[here].mean())


def test_the_oracle_is_at_least_as_good_and_as_early_as_every_point_of_its_quality(
    said: tuple[dict[str, Any], str],
) -> None:
    examples = said[0]["examples"]
    assert all(examples["oracle"]["quality"] >= way["quality"] for way in examples["points"])
    gained = examples["oracle"]["quality"] - examples["full"]["quality"]
    assert examples["overthinking"]["destructive"] == pytest.approx(gained)


def test_the_page_shows_what_it_is_about(
    said: tuple[dict[str, Any], str],
) -> None:
    found, page = said
    for part in ("Operating points", "Where texts leave", "Confidence", "What the exits know",
                 "Labels and lengths", "Cost of the segments", "Parity", "SHA-256"):  # fmt: skip
        assert part in page
    assert all(digest in page for _, digest in found["files"].values())
    assert found["machine"]["processor"] in page
    elements = Elements(page)
    images = elements.named("img")
    assert len(images) == 6
    assert all(len(image["alt"] or "") > 30 for image in images)
    assert len(elements.named("caption")) == len(elements.named("table"))


def test_nothing_of_the_page_is_fetched_and_its_policy_forbids_the_rest(
    said: tuple[dict[str, Any], str],
) -> None:
    page = said[1]
    elements = Elements(page)
    assert not elements.named("script")
    for _, attributes in elements.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "style"
            if name in ("src", "srcset", "href"):
                assert (value or "").startswith(("data:", "#"))
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(each for each in elements.named("meta") if "http-equiv" in each)["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    for image in elements.named("img"):
        drawn = base64.b64decode((image["src"] or "").partition(",")[2]).decode()
        assert "<script" not in drawn
        assert not re.search(
            r"(href|url)\s*[=(]\s*[\"']?(?!#|[\"']?#)\w", drawn.replace("xlink:", "")
        )


@pytest.mark.usefixtures("undrawn")
def test_names_in_a_bundle_are_text_on_the_page(reported: Reported, tmp_path: Path) -> None:
    source, data = reported("entropy")
    bundle = shutil.copytree(source, tmp_path / "<b>bundle")
    data = Path(shutil.copy(data, tmp_path / "<i>data.jsonl"))
    edit_manifest(bundle, at("labels", [HOSTILE, f"$x^2$ {HOSTILE}", "positive"]))
    edit_manifest(bundle, at("operating_points.0.name", HOSTILE))
    edit_manifest(bundle, at("source.name", HOSTILE))
    edit_manifest(bundle, at("policy.rule", "{{ 7 * 7 }}" + HOSTILE))
    page = tmp_path / "page.html"
    result = report(bundle, page, "--data", str(data))
    assert result.exit_code == 0, result.output
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)
    assert {tag for tag, _ in elements.tags}.isdisjoint({"script", "b", "i"})
    assert all((image["src"] or "").startswith("data:") for image in elements.named("img"))
    assert "{{ 7 * 7 }}" in text


@pytest.mark.usefixtures("undrawn")
def test_without_data_the_page_says_what_the_manifest_says(
    reported: Reported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "__init__", None)
    found = summary(report(reported("entropy")[0], tmp_path / "page.html", "--json"))
    assert found["examples"] is None
    assert [point["name"] for point in found["operating_points"]] == ["careful", "fast", "each"]
    assert len(found["segments"]) == 3
    assert "Confidence" not in (tmp_path / "page.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_what_tuning_has_kept_is_used_again(
    reported: Reported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, data = reported("entropy")
    command = ["tune", str(bundle), "--data", str(data), "--max-loss", "1", "--threads", "1"]
    copied = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    command[1] = str(copied)
    assert CliRunner().invoke(effbert, command).exit_code == 0
    monkeypatch.setattr(one_pass, "_answered", None)
    assert report(copied, tmp_path / "page.html", "--data", str(data)).exit_code == 0


@pytest.mark.usefixtures("undrawn")
def test_plots_are_written_as_svg_and_png_the_same_every_time(
    reported: Reported, tmp_path: Path
) -> None:
    bundle = reported("entropy")[0]
    for name in ("one", "two"):
        done = report(bundle, tmp_path / "page.html", "--figures", str(tmp_path / name))
        assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["cost.png", "cost.svg", "parity.png", "parity.svg"]
    svg, png = tmp_path / "one" / "cost.svg", tmp_path / "one" / "cost.png"
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_bytes() == (tmp_path / "two" / "cost.svg").read_bytes()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("build", [build_token_bundle, build_question_bundle])
def test_other_tasks_have_a_page_without_what_they_cannot_show(
    build: Callable[[Path], Path], tmp_path: Path
) -> None:
    bundle = build(tmp_path / "bundle")
    data = tmp_path / "data.jsonl"
    rows = [
        {"question": text, "context": f"{text} a good film"}
        if build is build_question_bundle
        else {"text": text}
        for text in texts(30)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = summary(report(bundle, tmp_path / "page.html", "--data", str(data), "--json"))
    examples = found["examples"]
    assert examples["right_is"] == "the answer is that of full depth"
    assert examples["oracle"]["quality"] == 1
    assert all(each["calibration"] is None for each in examples["exits"])
    assert "Confidence" not in (tmp_path / "page.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_points_that_change_more_than_the_threshold_are_named_not_replayed(
    reported: Reported, tmp_path: Path
) -> None:
    bundle, data = reported("entropy")
    copied = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    knob = {
        "name": "extra",
        "dtype": "float32",
        "minimum": 0,
        "maximum": 1,
        "default": 0,
        "never": 0,
        "per_exit": False,
        "raising": "earlier",
    }
    edit_manifest(copied, lambda manifest: manifest["knobs"].append(knob))
    edit_manifest(copied, at("operating_points.0.knobs.extra", 1))
    found = summary(report(copied, tmp_path / "page.html", "--data", str(data), "--json"))
    assert found["examples"]["left_out"] == {"careful": "it also sets extra"}
    assert [point["name"] for point in found["examples"]["points"]] == ["fast", "each"]


def test_a_bundle_whose_words_exit_alone_is_refused_with_data(tmp_path: Path) -> None:
    bundle = build_token_bundle(tmp_path / "bundle")
    report_layers_of_tokens(bundle)
    (tmp_path / "data.jsonl").write_text('{"text": "a film"}')
    refused = report(bundle, tmp_path / "page.html", "--data", str(tmp_path / "data.jsonl"))
    assert refused.exit_code == 2
    assert "Words of this bundle exit one by one" in refused.stderr
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    "output, reason",
    [("page.txt", "ends in .html"), ("missing/page.html", "there is no folder")],
)
def test_a_target_that_cannot_be_written_is_refused_first(
    output: str, reason: str, tmp_path: Path
) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    refused = report(bundle, tmp_path / output)
    assert refused.exit_code == 2
    assert reason in refused.stderr
    assert "Traceback" not in refused.output


def test_without_its_libraries_the_command_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    refused = report(build_tiny_bundle(tmp_path / "bundle"), tmp_path / "page.html")
    assert refused.exit_code == 2
    assert 'pip install "effbert[report]"' in refused.stderr


@pytest.mark.usefixtures("undrawn")
def test_a_page_that_was_there_is_replaced_as_a_whole(reported: Reported, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    assert report(reported("entropy")[0], page).exit_code == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
