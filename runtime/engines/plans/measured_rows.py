"""How far apart rows alone and in batches were measured, kept beside the plans."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import msgspec

from effbert.runtime.engines.plans.cuda import CudaDevice
from effbert.runtime.engines.plans.found import FoundPlans
from effbert.runtime.errors import EffbertWarning

NAME = "rows.json"


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measurement: with which plans, on which GPU and driver, and what was found."""

    plans: list[str]
    gpu: str
    driver: int
    difference: float


class MeasuredRows:
    """The file `rows.json` in a folder of plans; what another GPU or driver measured is no news."""

    def __init__(self, found: FoundPlans, device: CudaDevice) -> None:
        self._path = found.folder / NAME
        self._plans = [plan.sha256 for plan in found.plans]
        self._device = device

    def read(self) -> float | None:
        """Return what was measured with these plans on such a GPU, if anything was."""
        for item in self._all():
            if self._is_ours(item):
                return item.difference
        return None

    def write(self, difference: float) -> None:
        """Keep a measurement, in place of the one before; warn if the folder cannot be written."""
        ours = Measured(self._plans, self._device.model, self._device.driver, difference)
        others = [item for item in self._all() if not self._is_ours(item)]
        try:
            self._replace(msgspec.json.encode([*others, ours]))
        except OSError as error:
            warnings.warn(
                f"{self._path} cannot be written ({error.strerror or error}), so sessions will go "
                "on to warn that nobody has measured the rows; make the folder writable.",
                EffbertWarning,
                stacklevel=2,
            )

    def _replace(self, data: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=self._path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(self._path)

    def _is_ours(self, item: Measured) -> bool:
        where = (item.gpu, item.driver)
        return item.plans == self._plans and where == (self._device.model, self._device.driver)

    def _all(self) -> list[Measured]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Measured])
        except (OSError, msgspec.MsgspecError):
            return []
