"""The native library behind a small program that answers requests, and a Python end of it."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "runtime" / "native"
COMPILER = shutil.which("g++")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1")


def build_driver(*flags: str) -> Path:
    """Compile what changed since the last time; programs are kept in build/native-driver."""
    assert COMPILER is not None
    folder = ROOT / "build" / "native-driver"
    folder.mkdir(parents=True, exist_ok=True)
    command = [COMPILER, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", *flags]
    headers = b"".join(path.read_bytes() for path in sorted((NATIVE / "src").glob("*.[hi]*")))
    sources = [NATIVE / "tests" / "driver.cpp", *(NATIVE / "src" / name for name in DRIVEN)]
    with FileLock(folder / "lock"):
        jobs, objects = [], []
        for source in sources:
            key = _digest(repr(command).encode(), headers, source.read_bytes())
            objects.append(folder / f"{source.stem}-{key}.o")
            if not objects[-1].exists():
                jobs.append((source, objects[-1]))
        with ThreadPoolExecutor(2) as pool:
            include = ["-I", str(NATIVE / "src")]
            list(pool.map(lambda job: _make([*command, *include, "-c", str(job[0])], job[1]), jobs))
        program = folder / f"driver-{_digest(*(path.name.encode() for path in objects))}"
        if not program.exists():
            _make([*command, *map(str, objects)], program)
    return program


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _make(command: list[str], target: Path) -> None:
    part = target.with_suffix(".part")
    subprocess.run([*command, "-o", str(part)], check=True)
    part.rename(target)


DRIVEN = (
    "utf8.cpp",
    "json.cpp",
    "sha256.cpp",
    "paths.cpp",
    "fields.cpp",
    "manifest.cpp",
    "record_rules.cpp",
    "segment_rules.cpp",
    "variant_rules.cpp",
    "unicode.cpp",
    "part.cpp",
    "normalizer.cpp",
    "replace.cpp",
    "charsmap.cpp",
    "pre_tokenizer.cpp",
    "token_model.cpp",
    "wordpiece.cpp",
    "bpe.cpp",
    "unigram.cpp",
    "added_tokens.cpp",
    "post_processor.cpp",
    "pipeline.cpp",
    "long_texts.cpp",
    "tokenizer.cpp",
)


class RefusedError(Exception):
    """What the native side says about a request."""


class Driver:
    """A running program; `ask` may be called as often as wanted."""

    def __init__(self, program: Path) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None
        )

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0 or kind is not None

    def ask(self, what: bytes, given: bytes) -> bytes:
        """Send a request and return the answer.

        Raises:
            RefusedError: The native side threw; the message is its own.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(what + struct.pack("<I", len(given)) + given)
        stdin.flush()
        head = stdout.read(4)
        assert len(head) == 4, "the native program ended"
        answer = stdout.read(struct.unpack("<I", head)[0])
        if answer[:1] != b"+":
            raise RefusedError(answer[1:].decode(errors="replace"))
        return answer[1:]
