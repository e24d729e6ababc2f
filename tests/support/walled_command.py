"""The `effbert` command where torch, transformers and the onnx libraries are not installed."""

import os
import subprocess
import sys
from pathlib import Path

# Puts a wall in front of these imports, then runs the installed `effbert` command.
WALLED_COMMAND = """
import sys
from importlib.abc import MetaPathFinder

class Wall(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "onnx", "onnx_ir", "onnxscript"}:
            raise ImportError(f"{name} is walled off")

sys.meta_path.insert(0, Wall())
from effbert.runtime.commands import main
sys.argv[0] = "effbert"
sys.exit(main())
"""


def walled_effbert(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `effbert` with torch, transformers and the onnx libraries walled off."""
    command = [sys.executable, "-c", WALLED_COMMAND, *map(str, arguments)]
    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)
