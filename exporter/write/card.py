"""The model card that a bundle carries as README.md."""

from __future__ import annotations

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.parity_text import spell_agreement


def model_card(manifest: Manifest, size: int) -> str:
    """Write the card: source, exits, knobs, parity and how to run it. `size` is in bytes."""
    source, segments = manifest.source, manifest.segments
    knobs = [
        f"- `{knob.name}` ({', '.join(map(str, knob.choices))}): selects a variant; the largest if "
        "it is left out."
        if knob.choices
        else f"- `{knob.name}` ({knob.dtype}, {knob.minimum} to {knob.maximum}, default "
        f"{knob.default}): a larger value exits {knob.raising}; {knob.never} never exits early."
        for knob in manifest.knobs
    ]
    exits = [
        f"| {index} | {segment.layer} | {segment.file} | {segment.parameters:,} |"
        for index, segment in enumerate(segments)
    ]
    parts = [
        f"# {source.name}, exported by effbert {manifest.producer.get('effbert', '')}",
        "",
        f"- task: {manifest.task}" + (f" ({manifest.problem})" if manifest.problem else ""),
        f"- checkpoint format: {source.format}" + (f", {source.paper}" if source.paper else ""),
        f"- encoder: {source.architecture}, weights sha256 {source.sha256[:16]}",
        f"- precision: {manifest.precision}",
        f"- size: {size / 1e6:.1f} MB, {len(segments)} exit{'s' * (len(segments) > 1)}",
        f"- labels: {', '.join(manifest.labels[:20]) or 'none'}",
        f"- exit policy: {manifest.policy.name}: {manifest.policy.rule}",
        f"- parity with torch: {_parity(manifest)}",
        "",
        "## Exits",
        "",
        "| exit | layer | segment | parameters |",
        "|---|---|---|---|",
        *exits,
        "",
        *(["## Knobs", "", *knobs, ""] if knobs else []),
        "## Run",
        "",
        "```python",
        "from effbert.runtime import Session",
        "",
        'session = Session("path/to/this/folder")',
        f"print(session({_example(manifest)}))",
        "```",
        "",
        "`effbert inspect` shows more, `effbert validate` checks this folder against its manifest.",
    ]
    return "\n".join(parts) + "\n"


def _parity(manifest: Manifest) -> str:
    if manifest.parity is None:
        return "not checked (--no-verify)"
    parity = manifest.parity
    worst = max((float(value) for value in parity.max_abs_diff), default=0.0)
    found = f"largest difference of any exit's outputs {worst:.2g} over {parity.rows} rows"
    if manifest.precision != "fp32":
        return f"{found}; {spell_agreement(parity)}"
    return (
        f"{found} (tolerance {parity.atol:g}); {parity.decisions} exit decisions equal, "
        f"{parity.decisions_near_threshold} of them within rounding of a threshold"
    )


def _example(manifest: Manifest) -> str:
    if manifest.task == "question-answering":
        return '[("Who wrote it?", "It was written by Ada.")]'
    return '["A text to look at."]'
