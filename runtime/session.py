"""A bundle, opened and ready to answer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from effbert.runtime.bundle.folder import Bundle, open_bundle
from effbert.runtime.bundle.manifest import Knob
from effbert.runtime.chain.batches import by_length, run_halving, split_batch
from effbert.runtime.chain.calls import Calls
from effbert.runtime.chain.exit_stats import DEFAULTS, OTHERS, ExitCounts, Stats
from effbert.runtime.chain.inputs import Batch, InputCheck
from effbert.runtime.chain.knobs import Knobs, KnobValue
from effbert.runtime.chain.results import ExitAnswers, ExitOutputs, Layout, Result
from effbert.runtime.chain.stopping import Cancel, Deadline
from effbert.runtime.engines.protocol import CompiledEngine, EngineSettings, Values
from effbert.runtime.engines.row_independence import row_independence
from effbert.runtime.engines.table import installed_engines
from effbert.runtime.engines.threads import choose_threads
from effbert.runtime.errors import InputError, NumericalError
from effbert.runtime.opening import open_chains, require_independent_rows
from effbert.runtime.texts.predictions import Prediction, make_predictions
from effbert.runtime.texts.tokenization import Text, TextEncoder

ROWS_OF_TEXT = 32  # texts are run in batches of at most this many rows


class Exit(NamedTuple):
    """One exit: its 0-based index in the chain, its 1-based encoder layer, its segment's file."""

    index: int  # type: ignore[assignment]  # hides tuple.index, on purpose
    layer: int
    file: str


class _Call(NamedTuple):
    """The knob values of a call, and what they come from."""

    values: Values
    point: str


class Session:
    """Answers texts or token ids with the segments of a bundle.

    One session may be used from many threads; nothing is shared between calls but the loaded
    segments. Pickling stores the path and the options, and opens the bundle again.

    Attributes:
        bundle: The open bundle; `bundle.manifest` holds everything known about it.
        exits: The exits in order; those of the default variant if there are several.
        knobs: Knob name -> what it is, with range, default and the value that never exits.
        engine: Name of the engine that runs the segments.
        threads: How many threads compute a segment, and why.
        mode: Whether the segments run joined into one graph or one by one, and why.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        engine: str | None = None,
        threads: int | None = None,
        operating_point: str | None = None,
        max_batch_tokens: int = 16_384,
        dependent_rows: bool = False,
        special_tokens_in_text: bool = True,
        revision: str | None = None,
        *,
        device: str | None = None,
        plans: str | os.PathLike[str] | None = None,
        strict: bool = False,
        fallback: str | None = None,
    ) -> None:
        """Open a bundle and load its segments, comparing each file with the manifest.

        Args:
            bundle: Folder of the bundle, ORG/NAME on the hub, or what `open_bundle` returned.
            engine: What runs the segments, one of `ENGINES`; None is the first that is installed.
            threads: Threads that compute one segment; None is the physical cores, or as many as the
                affinity and the control group of this process allow.
            operating_point: Knob values to start from, by name; None is the defaults.
            max_batch_tokens: Larger batches are split; bounds memory.
            dependent_rows: Accept an engine with which, at this precision, a row's answer depends
                on the rows beside it; it is refused otherwise.
            special_tokens_in_text: Read special tokens that are written in a text, such as [SEP],
                as the checkpoint's tokenizer does; False, for texts of strangers, reads them as
                any other characters.
            revision: Branch, tag or commit of a bundle on the hub; `bundle.origin` says which
                commit was opened.
            device: Where to compute, such as "cuda:1"; None is the engine's own choice.
            plans: Folder of compiled plans, for engines that need them; None is the user's cache.
            strict: Refuse what would only be warned of: rows that nobody measured, a fallback.
            fallback: Engine that runs the bundle, with a warning, if `engine` cannot; None is an
                error then.

        Raises:
            BundleError: The bundle is damaged, written by a newer version, or not on the hub.
            InputError: No such engine or operating point, an option out of range, or rows that
                would depend on each other.
            MissingDependencyError: The engine's library is not installed.
            EngineError, ResourceError: A segment cannot be loaded.
        """
        if not isinstance(max_batch_tokens, int | np.integer) or max_batch_tokens < 1:
            raise InputError(f"max_batch_tokens: got {max_batch_tokens!r}, expected 1 or more.")
        self.threads = choose_threads(threads)
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, revision)
        manifest = opened.manifest
        self.bundle = opened
        self.exits = [
            Exit(index, segment.layer, segment.file)
            for index, segment in enumerate(manifest.segments)
        ]
        self.knobs: dict[str, Knob] = {knob.name: knob for knob in manifest.knobs}
        self._reopen = partial(
            Session,
            str(opened.path),
            engine,
            threads,
            operating_point,
            max_batch_tokens,
            dependent_rows,
            special_tokens_in_text,
            device=device,
            plans=None if plans is None else os.fspath(plans),
            strict=strict,
            fallback=fallback,
        )
        self._knobs = Knobs(manifest, operating_point)
        self._point = operating_point or DEFAULTS
        self._counts = ExitCounts(manifest)
        self._check = InputCheck(manifest)
        self._encoder = TextEncoder(opened, special_tokens_in_text) if manifest.tokenizer else None
        settings = EngineSettings(
            self.threads.told,
            manifest.precision,
            device,
            None if plans is None else Path(plans),
            strict,
        )
        name = engine or installed_engines()[0]
        self.engine, self._engine, self._chains = open_chains(opened, name, settings, fallback)
        if not dependent_rows:
            require_independent_rows(self.engine, self._engine, settings)
        self.mode = self._chains.mode
        self._split = partial(
            split_batch,
            padding_free=manifest.padding_free,
            max_tokens=max_batch_tokens,
            shortest=manifest.limits.min_length,
            limits=self._engine.limits,
        )
        self._layout = Layout(manifest)
        self._calls = Calls()

    def run(
        self,
        inputs: Mapping[str, Any],
        knobs: Mapping[str, KnobValue] | None = None,
        deadline_ms: float | None = None,
        cancel: Cancel | None = None,
        operating_point: str | None = None,
    ) -> Result:
        """Answer token ids; every row takes the first exit that fires.

        Args:
            inputs: `input_ids` and, if the bundle has them, `attention_mask` (missing: ones) and
                `token_type_ids` (missing: zeros), integers [batch, sequence].
            knobs: Knob values for this call, over those of the operating point.
            deadline_ms: Milliseconds for the call. Rows whose next segment would end later, as
                those of earlier calls tell, get the answer of the exit they reached last; the first
                segment always runs. `deadline_hit` of the result marks them.
            cancel: Stops the call from another thread.
            operating_point: Of this call, by name, in place of that of the session.

        Returns:
            The answers in the order of the rows.

        Raises:
            InputError: Inputs or knobs do not fit the bundle.
            NumericalError: Answers are not finite.
            CancelledError: `cancel.cancel()` was called.
            ResourceError, EngineError: The engine failed.
        """
        with self._calls:
            deadline = Deadline(deadline_ms)
            call = self._call(knobs, operating_point)
            return self._answer(self._check(inputs), call, deadline, cancel)

    def run_exits(
        self, inputs: Mapping[str, Any], knobs: Mapping[str, KnobValue] | None = None
    ) -> ExitAnswers:
        """Answer token ids at every exit; no row stops, whatever the knobs say.

        Args:
            inputs: As for `run`.
            knobs: Knob values, over their `never` values: to select a variant, and for models that
                read knobs themselves.

        Returns:
            Output name -> float32 [exits, batch, ...], and as its attribute `signal` what the exit
            policy compares, float32 [exits, batch].
        """
        with self._calls:
            batch = self._check(inputs)
            outputs = ExitOutputs(self.bundle.manifest, batch.rows, batch.length)
            values = self._knobs.over_never(knobs)
            chain = self._chains.chosen(values)
            for rows, part in self._split(batch):
                chain.run_all(part, rows, values, outputs)
            return outputs.outputs

    def __call__(
        self,
        texts: Sequence[Text],
        knobs: Mapping[str, KnobValue] | None = None,
        deadline_ms: float | None = None,
        cancel: Cancel | None = None,
        operating_point: str | None = None,
    ) -> list[Prediction]:
        """Answer texts.

        Args:
            texts: A list of texts or (text, text) pairs; for question answering pairs of
                (question, context). Texts too long are cut, which the prediction reports.
            knobs: As for `run`.
            deadline_ms: As for `run`, for all texts together.
            cancel: As for `run`.
            operating_point: As for `run`.

        Returns:
            One prediction a text, in their order.

        Raises:
            InputError: Something is not a text, or the bundle has no tokenizer.
            RunError: As for `run`.
        """
        with self._calls:
            deadline = Deadline(deadline_ms)
            call = self._call(knobs, operating_point)
            if self._encoder is None:
                raise InputError(
                    "This bundle has no tokenizer, so it answers token ids only; export it again "
                    "with: effbert-export CHECKPOINT BUNDLE --tokenizer DIR."
                )
            encodings = self._encoder.encode(texts)
            answers: list[Prediction] = [None] * len(encodings)  # type: ignore[list-item]
            lengths = [len(item.ids) for item in encodings]
            for indices in by_length(lengths, ROWS_OF_TEXT):
                part = [encodings[index] for index in indices]
                batch = self._check(self._encoder.padded(part))
                try:
                    result = self._answer(batch, call, deadline, cancel)
                except NumericalError as error:  # its rows are those of the sorted batch
                    rows = sorted(indices[row] for row in error.rows)
                    raise NumericalError(rows, error.what) from None
                result.truncated[:] = [item.truncated for item in part]
                found = make_predictions(self.bundle.manifest, part, result)
                for index, prediction in zip(indices, found, strict=True):
                    answers[index] = prediction
            return answers

    def stats(self) -> Stats:
        """Count rows and exits so far, by operating point, and tell whether they drift.

        `session.stats()["loss-0.5"].drift` is a sentence where the rows leave unlike the examples
        that `effbert tune` chose the point on; `samples()` gives numbers for a metrics exporter.
        """
        return self._counts.stats()

    @property
    def row_independence(self) -> str:
        """How much a row's answer depends on the rows beside it."""
        measured = self._engine.measured_rows
        return row_independence(self.engine, self.bundle.manifest.precision, measured)

    @property
    def compiled(self) -> CompiledEngine | None:
        """The engine, if it runs compiled plans."""
        return self._engine if isinstance(self._engine, CompiledEngine) else None

    def close(self) -> None:
        """Wait for the calls that are running, then free the segments; a second time is fine."""
        if self._calls.close():
            self._chains.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen, ()

    def _call(self, knobs: Mapping[str, KnobValue] | None, point: str | None) -> _Call:
        name = OTHERS if knobs else point or self._point
        return _Call(self._knobs.merged(knobs, point), name)

    def _answer(
        self, batch: Batch, call: _Call, deadline: Deadline, cancel: Cancel | None
    ) -> Result:
        if cancel is None:
            return self._run_parts(batch, call, deadline)
        options = self._engine.options()
        with cancel.stopping(options):
            return self._run_parts(batch, call, deadline, cancel, options)

    def _run_parts(self, batch: Batch, call: _Call, *stopping: Any) -> Result:
        result = Result(self._layout, batch.rows, batch.length)
        chain = self._chains.chosen(call.values)
        for rows, part in self._split(batch):
            run_halving(chain.run, part, rows, call.values, result, *stopping)
        self._counts.add(call.point, result, chain.layers)
        return result
