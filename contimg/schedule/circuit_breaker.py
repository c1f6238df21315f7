"""Circuit breaker of each lane: after failures that are no group's own fault the lane is held and probed.

Failures with the blame machine, workflow or settings count (`contimg.core.errors.Blame`). A held lane opens again
when a probe, one call a minute, succeeds or fails through its group's own fault; the groups that failed in a row
are then due at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_TRIPS_AT = 3
"""Number of different groups, failed in a row, at which a lane is held."""
_PROBE_S = 60.0
"""Interval (s) between probes of a held lane."""


@dataclass
class _Lane:
    failed: dict[str, str] = field(default_factory=dict)
    """Units whose calls failed since the last success, with the messages."""
    whole: bool = False
    """Whether a call for several units failed as a whole."""
    probed: float = 0.0


class CircuitBreaker:
    """Circuit breaker: counts of each lane's failures that are not its groups' own."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    @property
    def held(self) -> dict[str, str]:
        """Held lanes, with the reason."""
        return {
            name: f"held: it fails for every group, {len(lane.failed)} in a row: {list(lane.failed.values())[-1]}"
            for name, lane in self._lanes.items()
            if lane.whole or len(lane.failed) >= _TRIPS_AT
        }

    def failure(self, lane: str, failed: Mapping[str, str], steady: float) -> None:
        """Count a call that failed; `failed` has the message of each unit."""
        state = self._lanes.setdefault(lane, _Lane())
        state.failed |= failed
        state.whole |= len(failed) > 1
        state.probed = steady

    def failed_in_a_row(self, lane: str) -> frozenset[str]:
        """Units that failed since the last success, two or more: what they have in common is the lane."""
        failed = self._lanes.get(lane, _Lane()).failed
        return frozenset(failed) if len(failed) > 1 else frozenset()

    def success(self, lane: str) -> None:
        """Count a call that succeeded, or failed through its group's fault alone: the lane opens."""
        self._lanes.pop(lane, None)

    def probes_due(self, steady: float) -> frozenset[str]:
        """Held lanes whose next probe is due (`steady`: monotonic time, s)."""
        return frozenset(name for name in self.held if steady - self._lanes[name].probed >= _PROBE_S)
