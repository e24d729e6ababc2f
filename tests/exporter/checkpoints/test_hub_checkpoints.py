"""Checkpoints by id: which commit was exported is told, and refusals are sentences."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoints import write_deebert
from fake_hub import Hub, Run, runner, sentence, serving
from matrices import slow_but

EXPORT = "import sys; from effbert.exporter.commands.export import main; main(sys.argv[1:])"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with the checkpoint org/model, as its branch main and its tag v1."""
    with serving() as found:
        sha = found.add("org/model", write_deebert(tmp_path / "checkpoint", layers=2))
        found.repositories["org/model"].refs["v1"] = sha
        found.repositories["org/model"].commit({"config.json": b"{}"})
        yield found


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    return runner(hub, tmp_path)


@pytest.mark.slow
def test_the_bundle_names_the_commit_of_its_checkpoint(hub: Hub, run: Run, tmp_path: Path) -> None:
    words = ("org/model", "bundle", "--revision", "v1", "--no-verify")
    done = run(*words, code=EXPORT)
    assert done.code == 0, done
    manifest = json.loads((tmp_path / "bundle" / "effbert.json").read_text())
    sha = hub.repositories["org/model"].refs["v1"]
    assert manifest["source"]["name"] == f"org/model@{sha}"
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert card.startswith(f"# org/model@{sha}, exported by effbert")


REFUSED = [
    (("org/ghost",), {}, "org/ghost is neither a folder nor a file here, and the hub has no"),
    (("org/model", "--revision", "v9"), {}, "org/model has no revision v9 on the hub"),
    (("org/gated",), {}, "org/gated is gated: ask for access at"),
    (("org/model",), {"HF_HUB_OFFLINE": "1"}, "may not be asked (HF_HUB_OFFLINE)"),
    (("org/bundle",), {}, "holds a bundle, which is exported already"),
    (("checkpoint", "--revision", "v1"), {}, "--revision belongs to a checkpoint on the hub"),
    (("./org/model",), {}, "./org/model does not exist."),
]


@pytest.mark.slow
@pytest.mark.parametrize("refused", slow_but(REFUSED, REFUSED[1]), ids=str)
def test_what_the_hub_does_not_give_is_one_sentence(
    hub: Hub, run: Run, refused: tuple[tuple[str, ...], dict[str, str], str]
) -> None:
    words, environment, expected = refused
    for name in ("org/gated", "org/bundle"):
        hub.repositories[name] = type(hub.repositories["org/model"])()
        hub.repositories[name].commit({"effbert.json": b"{}"})
    hub.repositories["org/gated"].gated = True
    done = run(words[0], "out", *words[1:], code=EXPORT, **environment)
    assert expected in sentence(done)
