"""One record of options: Python, both commands and the page of the documentation agree with it."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from effbert.exporter import ExportOptions, export
from effbert.exporter.commands.export import export_command
from effbert.exporter.formats import NAMES
from effbert.exporter.options import flag_of, meanings
from effbert.exporter.policies import POLICIES, TABLE
from effbert.runtime.commands import effbert
from effbert.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {field.name: field for field in dataclasses.fields(ExportOptions)}


def options_of(command: click.Command) -> dict[str | None, click.Option]:
    return {each.name: each for each in command.params if isinstance(each, click.Option)}


def test_python_takes_what_the_record_holds() -> None:
    parameters = inspect.signature(export).parameters
    assert [*parameters] == ["checkpoint", "bundle", "progress", *FIELDS]
    assert all(parameters[name].default == field.default for name, field in FIELDS.items())


def test_the_docstring_explains_every_option() -> None:
    text = " ".join((export.__doc__ or "").split())
    for field, meaning in meanings():
        assert f"{field.name}: {meaning.help}" in text


def test_the_command_takes_what_the_record_holds() -> None:
    options = options_of(export_command)
    assert set(options) - set(FIELDS) == {"as_json", "version"}
    for field, meaning in meanings():
        option = options[field.name]
        assert flag_of(field, meaning) in option.opts
        assert option.help == meaning.help
        if not meaning.several:
            assert option.default == field.default


def test_defaults_on_the_command_line_are_those_of_python() -> None:
    context = export_command.make_context("export", ["checkpoint", "bundle"])
    given = {name: value for name, value in context.params.items() if name in FIELDS}
    assert given.pop("knobs") == given.pop("keep_float") == ()
    assert ExportOptions(**given) == ExportOptions()


@pytest.mark.parametrize("heading", ["What to export", "Exits", "Lengths", "Precision", "Checks"])
def test_help_shows_options_under_headings(heading: str) -> None:
    shown = CliRunner().invoke(export_command, ["--help"]).output
    assert f"\n{heading}" in shown
    assert shown.index("--json") < shown.index("\nOther:")


@pytest.mark.parametrize("command", [export_command, effbert])
def test_commands_tell_their_version(command: click.Command) -> None:
    shown = CliRunner().invoke(command, ["--version"])
    assert shown.exit_code == 0
    assert "version 0." in shown.output


@pytest.mark.parametrize("option", ["--format", "--policy", "--task", "--precision", "--keep-cls"])
def test_a_name_that_is_not_in_a_closed_choice_is_refused_with_all_of_them(option: str) -> None:
    refused = CliRunner().invoke(export_command, ["checkpoint", "bundle", option, "nonsense"])
    assert refused.exit_code == 2
    assert "'nonsense' is not one of" in refused.output
    assert "auto" in refused.output or "fp32" in refused.output


def test_closed_choices_are_complete() -> None:
    options = options_of(export_command)
    assert {"auto", *NAMES} == {*options["format"].type.choices}
    assert {"auto", *POLICIES} == {*options["policy"].type.choices}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_policies_names_each_as_it_names_itself(name: str) -> None:
    assert POLICIES[name].name == name


@pytest.mark.parametrize(
    "options, message",
    [
        ({"task": "poetry"}, "There is no task poetry; choose one of auto, text-classification"),
        ({"precision": "fp64"}, "There is no precision fp64; choose one of fp32"),
        ({"opset": 17}, r"Opset 17 is not supported; choose 18\.\.23"),
        ({"atol": 0.0}, "The tolerance must be positive"),
        ({"pad_to": 32}, "--pad-to needs --length-adaptive or --retention"),
        ({"min_agreement": 2}, "--min-agreement is a share from 0 to 1"),
        ({"calibration": "texts.csv"}, "--calibration belongs to --precision int8"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExportOptions(**options).check()


@pytest.mark.parametrize(
    "exits, layers",
    [("all", None), ("2,4", (2, 4)), ([2, 4], (2, 4)), (("2", 4), (2, 4)), (" 2 , 4 ", (2, 4))],
)
def test_exits_are_read_in_every_form(exits: object, layers: tuple[int, ...] | None) -> None:
    assert ExportOptions(exits=exits).exit_layers == layers


@pytest.mark.parametrize("exits", ["", "0,2", "two", [1.5], [], ["a"]])
def test_exits_that_are_no_layers_are_refused(exits: object) -> None:
    with pytest.raises(InputError, match="Exits are `all`, `auto` or 1-based layers"):
        _ = ExportOptions(exits=exits).exit_layers


@pytest.mark.parametrize("retention", ["9,4", [9, 4], ("9", 4)])
def test_counts_are_read_in_every_form(retention: object) -> None:
    assert ExportOptions(retention=retention).kept_tokens == (9, 4)


def test_counts_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="Retention is a list of counts"):
        _ = ExportOptions(retention="nine").kept_tokens


def test_one_module_need_not_be_a_list() -> None:
    assert ExportOptions(keep_float="encoder.layer.3").float_modules == ("encoder.layer.3",)


@pytest.mark.parametrize("name", ["knobs", "keep_float"])
def test_help_and_page_tell_what_may_be_repeated(name: str) -> None:
    assert (options_of(export_command)[name].help or "").endswith("May be repeated.")


def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        export("checkpoint", "bundle", no_such_option=1)


def test_the_page_of_options_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools" / "options_page.py")]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert page == made, "run: python tools/options_page.py > docs/options.md"
