import shutil
from collections.abc import Iterator

import pytest

from native_driver import SANITIZERS, Driver, build_driver


@pytest.fixture
def driver() -> Iterator[Driver]:
    """The native library, ready to answer."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    with Driver(build_driver()) as running:
        yield running


@pytest.fixture
def sanitized() -> Iterator[Driver]:
    """The same; a wrong access or undefined behaviour ends it."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    with Driver(build_driver(*SANITIZERS)) as running:
        yield running
