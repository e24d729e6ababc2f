"""What another library says about an error, fit to end one of our sentences."""

from __future__ import annotations

import textwrap

LONGEST = 300


def short_reason(error: BaseException) -> str:
    """Take the first line that is not a heading, or the kind of error where it says too little.

    Returns:
        One line of at most 300 characters without its full stop.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((line for line in lines if not line.endswith(":")), "")
    short = textwrap.shorten(line, LONGEST, placeholder=" ...").rstrip(".")
    return short if " " in short else f"{type(error).__name__} {short}".rstrip()
