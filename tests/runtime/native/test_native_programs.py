"""C++ programs on the real onnxruntime: with sanitizers, beside a host's own sessions, for long."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from effbert.runtime import Bundle
from effbert.runtime.engines.native.native_library import onnxruntime_library

BUILD = Path(__file__).resolve().parents[3] / "build"
CYCLES = 1000
GROWTH = 4 << 20  # bytes


def run(build: str, bundle: Path, *arguments: str) -> str:
    """What the program says about a bundle; it fails if anything is not as it should be."""
    program = BUILD / build / "tests" / "run_bundle"
    if not program.exists():
        pytest.skip(f"{program.relative_to(BUILD.parent)} is not built (`make native` builds it)")
    done = subprocess.run(
        [program, bundle, str(onnxruntime_library()), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing is printed, by onnxruntime neither
    return done.stdout


@pytest.mark.parametrize("build", ["native", "native-address"])
@pytest.mark.parametrize("host", ["host-later", "host-first"])
def test_rows_are_the_same_alone_and_a_host_has_sessions_of_its_own(
    small_bundle: Callable[[str], Bundle], build: str, host: str
) -> None:
    found = run(build, small_bundle("exits").path, host)
    assert f"pool {1 if host == 'host-first' else 0}" in found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokee", "lengths", "dynabert", "albert", "int8"])
def test_sanitizers_find_nothing_in_other_bundles(
    small_bundle: Callable[[str], Bundle], name: str
) -> None:
    run("native-address", small_bundle(name).path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_sessions_leave_no_memory_behind(bundles: dict[str, Path]) -> None:
    [_, first, last] = run("native", bundles["entropy"], "cycles", str(CYCLES)).splitlines()
    assert int(last.split()[1]) - int(first.split()[1]) < GROWTH
