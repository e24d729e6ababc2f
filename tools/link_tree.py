"""Lay the package folders out under build/typing/effbert, so that mypy finds `effbert`.

Type checkers see neither setuptools' `package-dir` nor its editable import hook.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("exporter", "graph_passes", "runtime")


def main() -> None:
    tree = ROOT / "build" / "typing" / "effbert"
    tree.mkdir(parents=True, exist_ok=True)
    for folder in FOLDERS:
        link = tree / folder
        if not link.is_symlink():
            link.symlink_to(ROOT / folder, target_is_directory=True)


if __name__ == "__main__":
    main()
