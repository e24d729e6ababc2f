"""onnxruntime, imported without its telemetry.

From 1.29 on, importing onnxruntime starts a thread that reports to Microsoft. effbert reports
nothing to anybody, unless its user sets `ORT_DISABLE_TELEMETRY=0`. A host process that imported
onnxruntime before has decided for itself.
"""

from __future__ import annotations

import os
from contextlib import suppress

VARIABLE = "ORT_DISABLE_TELEMETRY"

if VARIABLE not in os.environ:
    os.environ[VARIABLE] = "1"
    try:
        with suppress(ImportError):  # the engine says it
            import onnxruntime  # noqa: F401
    finally:
        del os.environ[VARIABLE]
