"""Upload a bundle to the Hugging Face hub."""

from __future__ import annotations

from typing import NamedTuple

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.hub import explain, hub_client, quiet
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.errors import EffbertError


class Pushed(NamedTuple):
    """The commit that holds a bundle: its address for people, and its hash."""

    url: str
    commit: str


def upload_bundle(
    bundle: Bundle, name: str, branch: str = "main", private: bool = False, message: str = ""
) -> Pushed:
    """Upload the manifest and the files it lists as one commit; the model is made if need be.

    Files of an earlier bundle that this one does not have go in the same commit.

    Args:
        bundle: It is not checked here.
        name: ORG/NAME.
        branch: Made if need be.
        private: Of a model that is made.
        message: Of the commit.

    Raises:
        MissingDependencyError: The hub's client is not installed.
        EffbertError: The hub refuses or fails.
    """
    client = hub_client(name)
    files = [MANIFEST_NAME, *bundle.manifest.files]
    api = client.HfApi(library_name="effbert")
    with quiet():
        try:
            api.create_repo(name, private=private, exist_ok=True)
            if branch != "main":
                api.create_branch(name, branch=branch, exist_ok=True)
            done = api.upload_folder(
                repo_id=name,
                folder_path=bundle.path,
                revision=branch,
                allow_patterns=files,
                delete_patterns=["*.onnx", "weights.bin", "tokenizer.json"],
                commit_message=message or f"Bundle of {bundle.manifest.source.name}",
            )
        except Exception as error:  # those of its HTTP library, too
            raise EffbertError(explain(error, name, branch)) from error
    return Pushed(done.commit_url, done.oid)
