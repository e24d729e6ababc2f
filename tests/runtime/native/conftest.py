from collections.abc import Iterator

import pytest

from native_driver import COMPILER, ROOT, SANITIZERS, Driver, build_driver


def _require_native() -> None:
    if COMPILER is None:
        pytest.skip("there is no g++")
    if not (ROOT / "build" / "native").exists():
        pytest.skip("the native library is not built (`make native` builds it)")


@pytest.fixture
def driver() -> Iterator[Driver]:
    """The native library, ready to answer."""
    _require_native()
    with Driver(build_driver()) as running:
        yield running


@pytest.fixture
def sanitized() -> Iterator[Driver]:
    """The same; a wrong access or undefined behaviour ends it."""
    _require_native()
    with Driver(build_driver(*SANITIZERS)) as running:
        yield running
