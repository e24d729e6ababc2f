"""The chains of a session: one for each variant of the bundle, loaded when it is first used."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.bundle.variants import knob_combinations, selectors, spell, split_variants
from effbert.runtime.chain.loop import Chain
from effbert.runtime.chain.one_by_one import OneByOne
from effbert.runtime.engines.protocol import CannotJoinError, Engine, RunnableChain, Values
from effbert.runtime.errors import InputError


class Mode(NamedTuple):
    """How the segments of a variant run: joined into one graph or one by one, and why."""

    joined: bool
    reason: str

    def __str__(self) -> str:
        return f"{'joined' if self.joined else 'one by one'}: {self.reason}"


class Chains:
    """All variants; the default one is loaded at once, the others by the first call for them.

    Attributes:
        default: The chain of the default variant.
        mode: How that one runs.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        manifest = bundle.manifest
        self._bundle = bundle
        self._engine = engine
        self._dtypes = {knob.name: knob.dtype for knob in selectors(manifest)}
        keys = [self._key(combination) for combination in knob_combinations(manifest)]
        self._variants = dict(zip(keys, split_variants(manifest), strict=True))
        self._loaded: dict[Any, Chain] = {}
        self._loading = threading.Lock()
        self.default, self.mode = self._load(self._variants[keys[0]])
        self._loaded[keys[0]] = self.default

    def chosen(self, knobs: Values) -> Chain:
        """Return the chain that the knob values of a call select.

        Raises:
            InputError: There is no such variant.
            IntegrityError: A file of the variant is damaged.
            EngineError, ResourceError: A segment cannot be loaded.
        """
        if len(self._variants) == 1:
            return self.default
        key = self._key(knobs[0])
        chain = self._loaded.get(key)
        if chain is not None:
            return chain
        if key not in self._variants:
            known = "; ".join(map(spell, knob_combinations(self._bundle.manifest)))
            asked = spell(dict(zip(self._dtypes, key, strict=True)))
            raise InputError(f"There is no variant with {asked}; this bundle has: {known}.")
        with self._loading:
            if key not in self._loaded:
                self._loaded[key], _ = self._load(self._variants[key])
            return self._loaded[key]

    def close(self) -> None:
        """Free the segments of all variants."""
        for chain in self._loaded.values():
            chain.close()

    def _key(self, values: Any) -> tuple[float, ...]:
        return tuple(np.array(values[name], dtype).item() for name, dtype in self._dtypes.items())

    def _load(self, manifest: Manifest) -> tuple[Chain, Mode]:
        read = self._bundle.read
        weights = read(WEIGHTS_NAME) if WEIGHTS_NAME in manifest.files else None
        names = [segment.file for segment in manifest.segments]
        chain: RunnableChain
        if len(names) == 1 and not self._engine.chains:
            reason = "there is one segment"
        else:
            try:
                chain = self._engine.join(manifest, map(read, names), weights)
                return Chain(manifest, chain), Mode(chain.joined, chain.reason)
            except CannotJoinError as error:
                reason = str(error)
        runnables = [self._engine.load(name, read(name), weights) for name in names]
        chain = OneByOne(manifest, runnables, reason)
        return Chain(manifest, chain), Mode(chain.joined, chain.reason)
