"""`effbert push`: what arrives on the hub, and what is refused before anything is sent."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle_edits import write_listed
from fake_hub import Hub, Run, runner, sentence, serving

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        yield found


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    return runner(hub, tmp_path)


def test_a_bundle_arrives_as_it_is_and_opens_from_there(hub: Hub, run: Run, bundle: Path) -> None:
    write_listed(bundle, "README.md", b"# A card")
    (bundle / "notes.txt").write_text("not listed")
    said = json.loads(run("push", bundle, "org/new", "--json", HF_TOKEN="hf_x").out)
    repository = hub.repositories["org/new"]
    sha = repository.refs["main"]
    assert said == {
        "name": "org/new",
        "branch": "main",
        "commit": sha,
        "url": f"{hub.address}/org/new/commit/{sha}",
    }
    sent = {file.name: file.read_bytes() for file in bundle.iterdir() if file.suffix != ".txt"}
    assert repository.commits[sha] == sent | {".gitattributes": b"*.onnx filter=lfs\n"}
    assert not repository.private
    assert run("run", "org/new", "good film").out.startswith("positive")


def test_branch_visibility_and_message_are_those_asked_for(
    hub: Hub, run: Run, pristine: Path
) -> None:
    words = ("push", pristine, "org/new", "--branch", "int8", "--private", "--message", "Smaller")
    done = run(*words, HF_TOKEN="hf_x")
    repository = hub.repositories["org/new"]
    assert repository.private
    assert repository.message == "Smaller"
    assert "effbert.json" in repository.commits[repository.refs["int8"]]
    assert "effbert.json" not in repository.commits[repository.refs["main"]]
    assert done.out.startswith(f"org/new@{repository.refs['int8']}\n")


@pytest.mark.slow
def test_files_of_an_earlier_bundle_go(hub: Hub, run: Run, pristine: Path) -> None:
    run("push", pristine, "org/new", HF_TOKEN="hf_x")
    repository = hub.repositories["org/new"]
    earlier = repository.commits[repository.refs["main"]]
    repository.commit(earlier | {"segment-09.onnx": b"old", "mine.txt": b"kept"})
    run("push", pristine, "org/new", HF_TOKEN="hf_x")
    found = repository.commits[repository.refs["main"]]
    assert found == earlier | {"mine.txt": b"kept"}


def test_what_is_no_valid_bundle_is_not_sent(hub: Hub, run: Run, bundle: Path) -> None:
    assert "There is no bundle" in sentence(run("push", "none", "org/new", HF_TOKEN="hf_x"))
    weights = bundle / "weights.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    said = sentence(run("push", bundle, "org/new", HF_TOKEN="hf_x"))
    assert "weights.bin is damaged" in said
    assert hub.requests == []


@pytest.mark.parametrize("name", ["new", "./org/new", "org/a/b", "-x/y"])
def test_a_name_that_is_no_id_is_not_sent(hub: Hub, run: Run, pristine: Path, name: str) -> None:
    done = run("push", pristine, "--", name, HF_TOKEN="hf_x")
    assert f"{name} is no id on the hub" in sentence(done)
    assert hub.requests == []


def test_without_a_token_it_says_how_to_log_in(hub: Hub, run: Run, pristine: Path) -> None:
    assert "`hf auth login`" in sentence(run("push", pristine, "org/new"))


def test_a_hub_that_cannot_be_reached_is_a_sentence(run: Run, pristine: Path) -> None:
    away = {"HF_TOKEN": "hf_x", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert "Connection refused" in sentence(run("push", pristine, "org/new", **away))
