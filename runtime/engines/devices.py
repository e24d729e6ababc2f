"""Names of devices, as `--device` takes them."""

from __future__ import annotations

import re

from effbert.runtime.errors import InputError

_NAMED = re.compile(r"cuda(?::(\d{1,3}))?")


def gpu_index(name: str | None) -> int:
    """Return the index of a GPU that is named "cuda" or "cuda:N"; None is the first.

    Raises:
        InputError: The name is of another form.
    """
    found = _NAMED.fullmatch("cuda" if name is None else name)
    if found is None:
        raise InputError(
            f"This engine computes on GPUs of NVIDIA, got device {name!r}, expected 'cuda' or "
            "'cuda:N'."
        )
    return int(found[1] or 0)
