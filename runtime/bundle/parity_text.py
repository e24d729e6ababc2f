"""How a bundle of lower precision agrees with its model, for people."""

from __future__ import annotations

from effbert.runtime.bundle.manifest import Parity


def spell_agreement(parity: Parity) -> str:
    """Write the shares of answers and exit decisions that are those of torch."""
    shares = {"answers": parity.same_answers, "exit decisions": parity.same_decisions}
    found = [
        f"{100 * share:.1f} % of {what}" for what, share in shares.items() if share is not None
    ]
    return f"{' and '.join(found) or 'nothing to choose'} as torch"
