"""The JSON Schema of `effbert.json`, generated from the types.

`python -m effbert.runtime.bundle.schema > runtime/bundle/manifest.schema.json` updates the file.
The schema describes each field; what must hold between fields is in `rules`.
"""

from __future__ import annotations

import json
import sys

import msgspec

from effbert.runtime.bundle.manifest import VERSION, Manifest


def manifest_schema() -> str:
    """Return the schema as JSON text (draft 2020-12)."""
    schema = msgspec.json.schema(Manifest)
    for record in schema["$defs"].values():
        if record.get("additionalProperties") is False:
            record["patternProperties"] = {"^x-": {}}
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"effbert bundle manifest, format version {VERSION[0]}.{VERSION[1]}",
    }
    return json.dumps(head | schema, indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(manifest_schema())
