"""Bundles by ORG/NAME: what is fetched, which commit, and every way in which that fails."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from effbert.runtime import open_bundle
from effbert.runtime.bundle.hub import is_hub_id
from effbert.runtime.errors import BundleError, InputError
from fake_hub import EFFBERT, Hub, Run, runner, sentence, serving
from matrices import slow_but

pytest.importorskip("huggingface_hub")
OPENED = """
import sys
from effbert.runtime import Session
with Session("org/tiny", threads=1, revision=(sys.argv[1:] or [None])[0]) as session:
    print(session(["good film"])[0].label, session.bundle.origin, session.bundle.path.name)
"""


@pytest.fixture
def hub(pristine: Path) -> Iterator[Hub]:
    """A hub that has the bundle org/tiny."""
    with serving() as found:
        found.add("org/tiny", pristine)
        yield found


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    """Runs `effbert`, or other code, in a process of its own that uses the hub."""
    return runner(hub, tmp_path)


def test_a_session_opens_a_bundle_and_tells_its_commit(hub: Hub, run: Run, pristine: Path) -> None:
    first = hub.repositories["org/tiny"].refs["main"]
    (hub.repositories["org/tiny"].commits[first])["notes.txt"] = b"not listed in the manifest"
    assert run(code=OPENED).out == f"positive org/tiny@{first} {first}\n"
    assert not [each for each in hub.requests if "notes.txt" in each]
    second = hub.repositories["org/tiny"].commit(dict(hub.repositories["org/tiny"].commits[first]))
    assert run(code=OPENED).out.split()[1] == f"org/tiny@{second}"
    assert run(first, code=OPENED).out.split()[1] == f"org/tiny@{first}"


def test_commands_read_a_bundle_from_the_hub(hub: Hub, run: Run) -> None:
    sha = hub.repositories["org/tiny"].refs["main"]
    hub.repositories["org/tiny"].refs["v1"] = sha
    assert run("run", "org/tiny", "--revision", "v1", "good film").out.startswith("positive")
    assert json.loads(run("inspect", "org/tiny", "--json").out)["hub"] == f"org/tiny@{sha}"
    assert f"org/tiny@{sha}" in run("inspect", "org/tiny").out
    assert json.loads(run("validate", "org/tiny", "--json").out)["valid"]
    assert "hf download org/tiny" in sentence(run("tune", "org/tiny", "--data", "x.csv"))


@pytest.mark.slow
def test_what_is_in_the_cache_opens_offline(hub: Hub, run: Run) -> None:
    assert run("run", "org/tiny", "good film").code == 0
    assert run("run", "org/tiny", "good film", HF_HUB_OFFLINE="1").out.startswith("positive")
    gone = "http://127.0.0.1:9"
    assert run("run", "org/tiny", "good film", HF_ENDPOINT=gone).out.startswith("positive")


@pytest.mark.slow
def test_a_download_that_breaks_off_is_taken_up(hub: Hub, run: Run) -> None:
    hub.cut_after, hub.cuts_left = 100, 2
    assert run("run", "org/tiny", "good film").out.startswith("positive")
    assert hub.cuts_left == 0


@pytest.mark.slow
def test_a_download_that_breaks_off_for_good_is_a_sentence_and_never_half_a_bundle(
    hub: Hub, run: Run
) -> None:
    hub.cut_after, hub.cuts_left = 100, 10_000
    assert "try again" in sentence(run("run", "org/tiny", "good film"))
    hub.cuts_left = 0
    sentence(run("run", "org/tiny", "good film", HF_HUB_OFFLINE="1"))
    assert run("run", "org/tiny", "good film").out.startswith("positive")


REFUSED = {
    "missing": (("org/ghost",), {}, "the hub has no such model, or it is private"),
    "revision": (("org/tiny", "--revision", "v9"), {}, "org/tiny has no revision v9"),
    "gated": (("org/gated",), {}, "org/gated is gated: ask for access at http.* `hf auth login`"),
    "private": (("org/private",), {}, "or it is private; .* HF_TOKEN"),
    "offline": (("org/tiny",), {"HF_HUB_OFFLINE": "1"}, r"may not be asked \(HF_HUB_OFFLINE\)"),
    "refused": (("org/tiny",), {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
    "checkpoint": (("org/model",), {}, "effbert-export org/model BUNDLE"),
    "something": (("org/other",), {}, "org/other on the hub is not a bundle"),
    "damaged": (("org/damaged",), {}, "weights.bin is damaged"),
    "id": (("org/a--b..c",), {}, "no valid id on the hub"),
    "path": (("./org/tiny",), {}, "There is no bundle at"),
}


@pytest.mark.parametrize("case", slow_but(REFUSED, "missing", "gated", "damaged"))
def test_what_the_hub_does_not_give_is_one_sentence(
    hub: Hub, run: Run, pristine: Path, case: str
) -> None:
    for name in ("gated", "private", "damaged"):
        hub.add(f"org/{name}", pristine)
    hub.repositories["org/gated"].gated = True
    hub.repositories["org/private"].private = True
    [files] = hub.repositories["org/damaged"].commits.values()
    files["weights.bin"] = bytes(len(files["weights.bin"]))
    hub.add("org/model", pristine)
    [files] = hub.repositories["org/model"].commits.values()
    files["config.json"] = b"{}"
    del files["effbert.json"]
    hub.add("org/other", pristine)
    [files] = hub.repositories["org/other"].commits.values()
    del files["effbert.json"]
    words, environment, expected = REFUSED[case]
    said = sentence(run("run", *words, "good film", **environment))
    assert re.search(expected, said), said


def test_a_token_opens_what_is_gated_or_private(hub: Hub, run: Run, pristine: Path) -> None:
    hub.add("org/gated", pristine)
    hub.repositories["org/gated"].gated = hub.repositories["org/gated"].private = True
    assert run("run", "org/gated", "good film", HF_TOKEN="hf_x").out.startswith("positive")


def test_a_folder_here_of_the_same_name_wins(
    hub: Hub, run: Run, pristine: Path, tmp_path: Path
) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "tiny").symlink_to(pristine)
    assert run("run", "org/tiny", "good film").out.startswith("positive")
    assert hub.requests == []
    assert "is a path" in sentence(run("run", "org/tiny", "x", "--revision", "main"))


def test_without_the_client_the_extra_is_named(run: Run) -> None:
    hidden = f"import sys; sys.modules['huggingface_hub'] = None; {EFFBERT}"
    assert 'pip install "effbert[hub]"' in sentence(run("run", "org/tiny", "x", code=hidden))


@pytest.mark.parametrize(
    "location", ["./org/name", "/org/name", "~/name", "../x", "org", "a/b/c", "a\\b", "", "-a/b"]
)
def test_a_path_is_never_an_id(location: str) -> None:
    assert not is_hub_id(location)
    assert not is_hub_id(Path("org/name"))


def test_a_revision_of_a_folder_is_refused(pristine: Path) -> None:
    with pytest.raises(InputError, match="revision"):
        open_bundle(pristine, revision="main")
    with pytest.raises(BundleError, match="There is no bundle"):
        open_bundle(pristine / "none")
