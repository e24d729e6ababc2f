"""What a prepared segment reads and makes, as `engine.json` records it."""

from __future__ import annotations

from typing import Any, NamedTuple

from effbert.runtime.engines.plans.index import PlanExtent, PlanPort


class Ports(NamedTuple):
    """Inputs, outputs and extents of one segment."""

    inputs: list[PlanPort]
    outputs: list[PlanPort]
    extents: list[PlanExtent]

    @property
    def axes(self) -> list[str]:
        """Names of all dynamic axes of the inputs."""
        found = [axis for port in self.inputs for axis in port.axes if isinstance(axis, str)]
        return [*dict.fromkeys(found)]


def ports_of(prepared: Any) -> Ports:
    """Turn what `graph_passes.prepare` says into records of ours."""
    return Ports(
        [_port(port) for port in prepared.inputs],
        [_port(port) for port in prepared.outputs],
        [
            PlanExtent(
                name=each.name,
                knob=each.knob,
                element=each.element,
                slack=each.slack,
                least=each.least,
                total=each.total,
                exact=each.exact,
            )
            for each in prepared.extents
        ],
    )


def _port(port: Any) -> PlanPort:
    return PlanPort(
        name=port.name, dtype=port.dtype, axes=[*port.axes], role=port.role, rows=port.rows
    )
