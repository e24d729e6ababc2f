"""Print docs/options.md: every option of an export, from its record."""

from __future__ import annotations

from itertools import groupby

import click

from effbert.exporter.options import flag_of, meanings

HEAD = """# Options of an export

`effbert-export CHECKPOINT BUNDLE [OPTIONS]` and `effbert.exporter.export(checkpoint, bundle, ...)`
take the same options. `tools/options_page.py` writes this page from their definition.
"""


def main() -> None:
    print(HEAD)
    for group, members in groupby(meanings(), key=lambda member: member[1].group):
        print(f"## {group}\n\n| command line | Python | default | meaning |\n|---|---|---|---|")
        for field, meaning in members:
            flag = flag_of(field, meaning)
            flag = f"--no-{flag.removeprefix('--')}" if field.default is True else flag
            choices = meaning.type.choices if isinstance(meaning.type, click.Choice) else ()
            which = f" One of {', '.join(f'`{each}`' for each in choices)}." if choices else ""
            text = f"{meaning.help}{which}".replace("|", "\\|")
            print(f"| `{flag}` | `{field.name}` | `{field.default!r}` | {text} |")
        print()


if __name__ == "__main__":
    main()
