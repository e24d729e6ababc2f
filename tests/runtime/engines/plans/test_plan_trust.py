"""Plans are code: which are handed out, and what is said of those that are not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from effbert.runtime import Bundle, Session, open_bundle
from effbert.runtime.engines.plans import plan_store
from effbert.runtime.engines.plans.found import Wanted, find_plans
from effbert.runtime.engines.plans.index import INDEX_NAME, parse_index, read_index
from effbert.runtime.engines.plans.plan_store import Key, evict, folder_of, store_folder
from effbert.runtime.engines.plans.trust import adopt_plans, is_trusted, trust_folder, trust_hashes
from effbert.runtime.errors import EngineError, PlanError
from fake_gpu import Gpu
from tiny_bundle import build_tiny_bundle
from written_plans import LIBRARY, plan_bytes, write_plans

HERE = Wanted("tensorrt-rtx", LIBRARY, "sm86")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(build_tiny_bundle(tmp_path / "bundle"))


@pytest.fixture
def plans(bundle: Bundle, tmp_path: Path) -> Path:
    write_plans(bundle, tmp_path / "plans")
    return tmp_path / "plans"


def trust_all(folder: Path) -> None:
    trust_hashes([plan.plan_sha256 for plan in read_index(folder).segments], "a test")


def read_all(bundle: Bundle, folder: Path, wanted: Wanted = HERE) -> list[bytes]:
    return [plan.read() for plan in find_plans(bundle.manifest, wanted, folder).plans]


def test_plans_that_were_built_here_are_handed_out(bundle: Bundle, plans: Path):
    trust_all(plans)
    assert read_all(bundle, plans) == [plan_bytes(number) for number in range(3)]


def test_a_signature_says_what_the_chain_feeds(bundle: Bundle, plans: Path):
    found = find_plans(bundle.manifest, HERE, plans)
    signature = found.plans[0].signature
    assert found.compute == "fp16"
    assert signature.data == ("attention_mask",)
    assert signature.profiles[0]["attention_mask"] == ((1, 1), (8, 8), (32, 32))


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    content = json.loads((folder / INDEX_NAME).read_bytes())
    change(content)
    (folder / INDEX_NAME).write_text(json.dumps(content))


def first(folder: Path) -> Path:
    return folder / read_index(folder).segments[0].plan


def forge(folder: Path, _: Bundle) -> None:
    """A plan of somebody else, with an index that says so."""
    data = b"another plan"
    first(folder).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit(folder, lambda c: c["segments"][0].update(size=len(data), plan_sha256=digest))


def alter(folder: Path, _: Bundle) -> None:
    data = bytearray(first(folder).read_bytes())
    data[500] ^= 1
    first(folder).write_bytes(data)


def truncate(folder: Path, _: Bundle) -> None:
    os.truncate(first(folder), 100)


def lengthen(folder: Path, _: Bundle) -> None:
    with open(first(folder), "ab") as file:
        file.write(b"more")


def remove(folder: Path, _: Bundle) -> None:
    first(folder).unlink()


def link_out(folder: Path, _: Bundle) -> None:
    plan, outside = first(folder), folder.parent / "elsewhere.plan"
    plan.rename(outside)
    plan.symlink_to(outside)


def change_bundle(folder: Path, _: Bundle) -> None:
    edit(folder, lambda c: c["segments"][0].update(sha256="0" * 64))


REFUSED: dict[Callable[[Path, Bundle], None], str] = {
    forge: "was not built on this machine, and a plan is code",
    alter: "was altered: its sha256 is",
    truncate: "is truncated: it has 100 bytes, engine.json says 1004",
    lengthen: "is longer than it was",
    remove: "is missing",
    link_out: "leads out of the bundle",
    change_bundle: "were built from another bundle: segment-00.onnx differs",
}


@pytest.mark.parametrize("harm", REFUSED, ids=lambda harm: harm.__name__)
def test_what_is_no_trusted_plan_is_refused_before_anybody_sees_a_byte(
    bundle: Bundle, plans: Path, harm: Callable[[Path, Bundle], None]
):
    trust_all(plans)
    harm(plans, bundle)
    with pytest.raises(PlanError, match=REFUSED[harm]) as refused:
        read_all(bundle, plans)
    assert str(refused.value).count(". ") == 0
    assert isinstance(refused.value, EngineError)  # so that a fallback may stand in


@pytest.mark.parametrize(
    "wanted, words",
    [
        (HERE._replace(version="1.8.0"), "built by version 1.7.1.116 of tensorrt-rtx"),
        (HERE._replace(capability="sm75"), "built for SM86, SM89, and this device is SM75"),
        (HERE._replace(engine="tensorrt"), "are for the engine tensorrt-rtx, not for tensorrt"),
    ],
)
def test_plans_for_something_else_are_refused(
    bundle: Bundle, plans: Path, wanted: Wanted, words: str
):
    trust_all(plans)
    with pytest.raises(PlanError, match=words):
        read_all(bundle, plans, wanted)
    assert not list(trust_folder().glob("tmp*"))


def test_plans_from_elsewhere_are_adopted_all_or_none(bundle: Bundle, plans: Path):
    with pytest.raises(PlanError, match="effbert compile --trust"):
        read_all(bundle, plans)
    alter(plans, bundle)
    with pytest.raises(PlanError, match="altered"):
        adopt_plans(plans)
    assert not trust_folder().exists()
    write_plans(bundle, plans)
    assert [name for name, _ in adopt_plans(plans)] == [f"segment-0{k}.plan" for k in range(3)]
    assert read_all(bundle, plans)


def test_a_folder_of_hashes_that_others_may_write_proves_nothing(bundle: Bundle, plans: Path):
    trust_all(plans)
    trust_folder().chmod(0o777)
    with pytest.raises(PlanError, match="may be written by other users"):
        read_all(bundle, plans)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c.update(version=2), "format version 2, this effbert reads 1"),
        (lambda c: c.update(format="other"), "is not valid"),
        (lambda c: c.update(more=1), "unknown field"),
        (lambda c: c["segments"][0].update(plan="../plan"), "is not valid"),
        (lambda c: c["segments"][0].update(plan="a..plan"), "two dots"),
        (lambda c: c["segments"][0].update(plan_sha256="no"), "is not valid"),
        (lambda c: c["segments"].append(c["segments"][0]), "listed twice"),
        (lambda c: c["segments"][0]["profiles"][0].pop("batch"), "dynamic axes"),
        (lambda c: c["segments"][0]["profiles"][0].update(batch=[8, 1, 32]), "not in order"),
        (lambda c: c["segments"][0]["inputs"][0].update(role="carry"), "has rows"),
        (lambda c: c["segments"][0]["inputs"][0].update(role="extent"), "extents"),
        (lambda c: c.update(targets=["gpu"]), "is not valid"),
        (lambda c: c.update(engine="other"), "is not valid"),
    ],
)
def test_an_index_is_read_strictly(plans: Path, change: Callable[[Any], object], words: str):
    edit(plans, change)
    with pytest.raises(PlanError, match=words):
        read_index(plans)


def test_what_is_no_index_is_refused(plans: Path):
    with pytest.raises(PlanError, match="holds no"):
        read_index(plans.parent / "nothing")
    for data in (b"", b"{", b'{"format": "effbert-engine"}', b"x" * (5 << 20)):
        with pytest.raises(PlanError):
            parse_index(data)


def key(compute: str = "fp16", **more: Any) -> Key:
    given = {"profiles": ["1x8,8x64,32x128"], "targets": ("sm86",), **more}
    return Key({"a.onnx": "1"}, None, "tensorrt-rtx", LIBRARY, compute=compute, flags={}, **given)


def test_everything_that_plans_depend_on_is_in_the_key():
    others = [
        key("fp32"),
        key(targets=("sm89",)),
        key(profiles=["1x8,8x64,8x128"]),
        key()._replace(library="2"),
        key()._replace(engine="tensorrt"),
        key()._replace(weights="2"),
        key()._replace(segments={"a.onnx": "2"}),
        key()._replace(flags={"tf32": True}),
    ]
    assert len({folder_of(each) for each in (key(), *others)}) == 1 + len(others)
    assert folder_of(key()) == folder_of(key())


def test_a_session_finds_plans_in_the_cache_by_what_they_are_for(bundle: Bundle):
    with pytest.raises(PlanError, match="There are no plans of this bundle for tensorrt-rtx"):
        find_plans(bundle.manifest, HERE, None)
    for name, library in (("old", "1.6"), ("new", LIBRARY)):
        write_plans(bundle, store_folder() / name, library)
    (store_folder() / "broken").mkdir()
    (store_folder() / "broken" / INDEX_NAME).write_text("{")
    assert find_plans(bundle.manifest, HERE, None).folder.name == "new"
    assert find_plans(bundle.manifest, HERE._replace(version="1.6"), None).folder.name == "old"


def test_the_cache_forgets_what_was_not_used_for_longest(bundle: Bundle):
    for age, name in enumerate(("newest", "middle", "oldest")):
        write_plans(bundle, store_folder() / name)
        os.utime(store_folder() / name / INDEX_NAME, (0, 10_000 - age))
    size = sum(file.stat().st_size for file in (store_folder() / "newest").iterdir())
    plan_store.mark_used(store_folder() / "oldest")
    removed = evict(store_folder() / "newest", limit=2 * size)
    assert [(folder.name, bytes_) for folder, bytes_ in removed] == [("middle", size)]
    assert sorted(folder.name for folder in store_folder().iterdir()) == ["newest", "oldest"]
    assert [folder.name for folder, _ in evict(store_folder() / "newest", limit=1)] == ["oldest"]
    shutil.rmtree(store_folder())
    assert evict(store_folder() / "newest") == []


def test_a_hash_is_a_file_that_says_where_the_plan_is_from(plans: Path):
    trust_all(plans)
    digest = read_index(plans).segments[0].plan_sha256
    assert (trust_folder() / digest).read_text() == "a test\n"
    assert is_trusted(digest)
    assert not is_trusted("0" * 64)


def older_library(folder: Path, _: Bundle) -> None:
    edit(folder, lambda content: content.update(library="1.6.0"))


def other_device(folder: Path, _: Bundle) -> None:
    edit(folder, lambda content: content.update(targets=["sm75"]))


@pytest.mark.parametrize("harm", [*REFUSED, older_library, other_device], ids=lambda h: h.__name__)
def test_no_call_of_tensorrt_sees_a_byte_of_what_is_refused(
    gpu: Gpu, tiny: Path, compiled: Path, harm: Callable[[Path, Bundle], None]
):
    harm(compiled, open_bundle(tiny))
    with pytest.raises(PlanError):
        Session(tiny, "tensorrt-rtx", plans=compiled)
    assert gpu.tensorrt.seen == []
