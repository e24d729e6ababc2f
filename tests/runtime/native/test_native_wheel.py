"""The wheel `effbert-native` is found by `engine="native"`, and its CMake package by consumers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OPEN = """
import sys
from effbert.runtime import Session
from effbert.runtime.engines.native.native_library import load_library
with Session(sys.argv[1], "native") as session:
    print(session(["a very good film"])[0].label)
print(load_library()._name)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the wheel, as pip would lay them out."""
    if shutil.which("cmake") is None or shutil.which("g++") is None:
        pytest.skip("there is no cmake or no g++")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder)]
    subprocess.run([*command, str(ROOT / "runtime" / "native")], check=True)
    [wheel] = folder.glob("effbert_native-*-py3-none-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".py", ".pyc"))]
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_engine_takes_the_library_of_the_wheel(
    installed: Path, bundles: dict[str, Path]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    environment.pop("EFFBERT_NATIVE_LIBRARY", None)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, bundles["entropy"]],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[1] == str(installed / "effbert_native/lib/libeffbert.so")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_cmake_finds_the_package_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    prefix = f"-DCMAKE_PREFIX_PATH={installed / 'effbert_native'}"
    samples = ROOT / "samples" / "native"
    subprocess.run(["cmake", "-S", samples, "-B", tmp_path, prefix], check=True)
    subprocess.run(["cmake", "--build", tmp_path, "--target", "classify"], check=True)
    assert (tmp_path / "classify").exists()
