"""What is built holds what the repository holds, no more and no less."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = ("exporter", "graph_passes", "runtime")
NATIVE = ROOT / "runtime" / "native"  # another package, effbert-native
PLUGIN = Path("exporter/optimum_register/register_effbert.py")


def shipped_files() -> set[str]:
    """Names inside the wheel of every file of the package folders."""
    names = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            relative = path.relative_to(ROOT)
            if path.is_dir() or "__pycache__" in path.parts or NATIVE in path.parents:
                continue
            if relative == PLUGIN:
                names.add("optimum/commands/register/register_effbert.py")
            else:
                names.add(f"effbert/{relative.as_posix()}")
    return names


def build(source: Path, kind: str, target: Path) -> Path:
    """Build a "wheel" or "sdist" of `source` through setuptools' standard hooks."""
    code = f"from setuptools import build_meta as b; b.build_{kind}({str(target)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree") / "effbert"
    ignored = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "docs", "samples", "benchmarks"
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    return build(copy, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the sdist, so that the sdist is shown to be whole."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


def test_every_package_folder_is_listed() -> None:
    on_disk = {
        "effbert." + ".".join(init.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert set(SETUPTOOLS["packages"]) == on_disk | {"optimum.commands.register"}


def test_the_wheel_holds_the_package_folders_and_the_optimum_plugin(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == shipped_files()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_wheel_says_that_it_is_typed(wheel: Path, folder: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert f"effbert/{folder}/py.typed" in archive.namelist()


def test_the_wheel_carries_the_licence_and_both_commands(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist()}
    assert "Apache License" in texts["LICENSE"]
    for command in ("effbert", "effbert-export"):
        assert re.search(rf"^{command} = effbert\.", texts["entry_points.txt"], re.M)


def test_the_sdist_holds_what_a_rebuild_and_its_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/conftest.py"} <= names


def test_the_last_release_of_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert released[0] == PROJECT["project"]["version"]
    assert headings in (released, ["Unreleased", *released])


def test_no_optimum_folder_is_a_regular_package() -> None:
    """An `__init__.py` there would hide the optimum that other projects install."""
    assert not (ROOT / PLUGIN).with_name("__init__.py").exists()


def lower_bounds(requirements: list[str]) -> dict[str, str]:
    """Library -> the lowest version of it that is accepted."""
    found = {}
    for requirement in requirements:
        match = re.match(r"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)", requirement)
        if match is not None:
            found[match[1]] = match[2]
    return found


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    tested = dict(
        line.split("==")
        for line in (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    extras = PROJECT["project"]["optional-dependencies"]
    tools = {"mypy", "ruff", "setuptools", "tomli", "nncf", "onnxruntime-gpu"}
    tools |= {"tensorrt-rtx", "tensorrt", "cuda-bindings"}  # for machines with a GPU
    accepted = lower_bounds(PROJECT["project"]["dependencies"])
    for requirements in extras.values():
        accepted |= lower_bounds(requirements)
    assert {name for name in accepted if name not in tools} == set(tested)
    for name, version in tested.items():
        assert re.sub(r"(\.0)+$", "", version) == re.sub(r"(\.0)+$", "", accepted[name]), name
