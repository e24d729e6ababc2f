"""What a graph cannot be turned into, in one sentence."""

from __future__ import annotations


class PrepareError(ValueError):
    """A graph that cannot be prepared for an engine; the message names node, reason and way out."""
