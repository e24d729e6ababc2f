"""Read the JSON files that lie beside a checkpoint's weights and may be absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from effbert.exporter.reason import short_reason
from effbert.runtime.errors import CheckpointError

MAX_SETTINGS_BYTES = 1 << 24  # a tokenizer's list its added tokens


def read_settings(path: Path, most: int = MAX_SETTINGS_BYTES) -> dict[str, Any]:
    """Read a JSON object; empty where there is no such file, or it holds something else.

    Args:
        path: Of the file.
        most: Its largest size in bytes.

    Raises:
        CheckpointError: The file is too large, cannot be read, or is not JSON.
    """
    try:
        if not path.is_file():
            return {}
        if path.stat().st_size > most:
            raise CheckpointError(f"{path} is larger than {most} bytes.")
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {short_reason(error)}.") from error
    return settings if isinstance(settings, dict) else {}
