"""`effbert push`: a bundle to the Hugging Face hub."""

from __future__ import annotations

import json

import click

from effbert.runtime.commands.shared_options import json_option
from effbert.runtime.console.groups import Reporting
from effbert.runtime.errors import InputError

EXAMPLES = """
\b
Examples:
  effbert push ./bundle my-org/my-bundle --private
  effbert push ./bundle my-org/my-bundle --branch int8 --message "Smaller"
"""


@click.command(cls=Reporting, epilog=EXAMPLES)
@click.argument("bundle")
@click.argument("name", metavar="ORG/NAME")
@click.option("--branch", "--revision", default="main", show_default=True, help="Made if needed.")
@click.option("--private", is_flag=True, help="If the model is new, make it private.")
@click.option("--message", default="", metavar="TEXT", help="Of the commit.")
@json_option()
def push(bundle: str, name: str, branch: str, private: bool, message: str, as_json: bool) -> None:
    """Upload a BUNDLE with its model card to the Hugging Face hub.

    It is validated first, with its known answers, and uploaded as one commit.
    """
    from pathlib import Path

    from effbert.runtime.bundle.folder import open_bundle
    from effbert.runtime.bundle.hub import ID
    from effbert.runtime.bundle.upload import upload_bundle
    from effbert.runtime.checks.replay import validate

    if not ID.fullmatch(name):
        raise InputError(f"{name} is no id on the hub; expected ORG/NAME, such as my-org/bundle.")
    folder = Path(bundle)
    validate(folder)
    done = upload_bundle(open_bundle(folder), name, branch, private, message)
    if as_json:
        click.echo(json.dumps({"name": name, "branch": branch, **done._asdict()}))
    else:
        click.echo(f"{name}@{done.commit}\n{done.url}")
