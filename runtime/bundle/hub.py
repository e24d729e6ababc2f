"""The Hugging Face hub: what is an id there, fetching a commit of a model, and what went wrong.

Its client keeps what it fetched in a cache, takes up downloads that were interrupted, and answers
from the cache where the hub cannot be reached. It is imported only when it is needed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.bundle.parse import MAX_MANIFEST_BYTES, parse_manifest
from effbert.runtime.bundle.paths import open_file
from effbert.runtime.errors import BundleError, EffbertError, MissingDependencyError

ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
TRIES = 3  # of a download; what came before is kept
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


class Snapshot(NamedTuple):
    """A commit of a model in the cache: where its files are, and which one it is."""

    folder: Path
    origin: str  # ORG/NAME@COMMIT

    @property
    def commit(self) -> str:
        """The hash of the commit."""
        return self.folder.name


def is_hub_id(location: object) -> bool:
    """Tell whether text that names nothing here may be ORG/NAME on the hub; paths never are."""
    if not isinstance(location, str) or not ID.fullmatch(location):
        return False
    return not Path(location).exists()


def fetch(
    name: str, revision: str | None, patterns: Sequence[str], error: type[EffbertError]
) -> Snapshot:
    """Fetch the files of a model that match one of the patterns, all of them or none.

    Args:
        name: Its id.
        revision: A branch, tag or commit; None is the branch `main`.
        patterns: As of the shell.
        error: What to raise where the hub refuses or fails.

    Raises:
        MissingDependencyError: The hub's client is not installed.
    """
    client = hub_client(name)
    for left in reversed(range(TRIES)):
        try:
            with quiet():
                folder = client.snapshot_download(
                    name, revision=revision, allow_patterns=[*patterns], library_name="effbert"
                )
            break
        except (OSError, ValueError) as cause:  # it refuses, or gave up after tries of its own
            raise error(explain(cause, name, revision)) from cause
        except Exception as cause:  # of its HTTP library: the connection broke
            if not left:
                raise error(explain(cause, name, revision)) from cause
    return Snapshot(Path(folder), f"{name}@{Path(folder).name}")


def fetch_bundle(name: str, revision: str | None) -> Snapshot:
    """Fetch a bundle: its manifest first, then the files that it lists, of the same commit.

    Raises:
        BundleError: The hub refuses or fails, or the model is no bundle.
        MissingDependencyError: The hub's client is not installed.
    """
    found = fetch(name, revision, [MANIFEST_NAME, "config.json"], BundleError)
    if not os.path.lexists(found.folder / MANIFEST_NAME):
        if (found.folder / "config.json").exists():
            raise BundleError(
                f"{name} on the hub is a checkpoint and no bundle; export it first with: "
                f"effbert-export {name} BUNDLE."
            )
        raise BundleError(f"{name} on the hub is not a bundle: it holds no {MANIFEST_NAME}.")
    with open(open_file(found.folder, MANIFEST_NAME), "rb") as file:
        manifest = parse_manifest(file.read(MAX_MANIFEST_BYTES + 1))
    return fetch(name, found.commit, [MANIFEST_NAME, *manifest.files], BundleError)


def require_folder(location: str) -> None:
    """Refuse a bundle on the hub, for a command that writes into it.

    Raises:
        BundleError: Nothing here has that name, and the hub might.
    """
    if is_hub_id(location):
        raise BundleError(
            f"There is no folder {location} here, and a bundle on the hub cannot be changed; fetch "
            f"a copy with: hf download {location} --local-dir BUNDLE."
        )


def hub_client(name: str) -> ModuleType:
    """Import the hub's client.

    Args:
        name: What it is needed for.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is not a folder here, and the hub's client is not installed ({error}); "
            'install it with: pip install "effbert[hub]".'
        ) from error
    return huggingface_hub


def explain(error: Exception, name: str, revision: str | None = None) -> str:
    """Say in one sentence why the hub gave or took nothing, and what to do."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{name} is gated: ask for access at {constants.ENDPOINT}/{name}, then {_LOG_IN} with "
            "a token that may read it."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{name} is neither a folder nor a file here, and the hub has no such model, or it is "
            f"private; check the name or, if it is private, {_LOG_IN}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{name} has no revision {revision or 'main'} on the hub; name a branch, a tag or a "
            "whole commit of it."
        )
    if isinstance(error, errors.HFValidationError):
        return f"{name} is neither a folder nor a file here, and no valid id on the hub."
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"{name} is neither a folder nor a file here, it is not complete in the hub's cache, "
            f"and the hub {_unreachable(error.__cause__)}; go online once, or copy the folder here."
        )
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return f"The hub does not allow this for {name} ({_short(error)}); {_LOG_IN}."
    return (
        f"{name} did not come or go completely ({_short(error)}); try again, what arrived is kept."
    )


def _unreachable(cause: BaseException | None) -> str:
    from huggingface_hub import constants, errors

    if isinstance(cause, errors.OfflineModeIsEnabled) or cause is None:
        return "may not be asked (HF_HUB_OFFLINE)"
    return f"at {constants.ENDPOINT} cannot be reached ({_short(cause)})"


def _short(error: BaseException) -> str:
    """Return the first line of a message that says something."""
    lines = [line.strip(" .") for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Show progress on a terminal only, and no warnings: an error says what matters."""
    from huggingface_hub import utils

    verbosity, hidden = utils.logging.get_verbosity(), utils.are_progress_bars_disabled()
    utils.logging.set_verbosity(utils.logging.CRITICAL)
    if not hidden and not sys.stderr.isatty():
        utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(verbosity)
        if not hidden:
            utils.enable_progress_bars()
