"""Circuit breaker of each lane: what fails for all is not a group's fault, so the lane is held and probed.

Failures count whose blame is the machine, the workflow or the settings (`contimg.core.errors.Blame`). A lane opens
again by itself when a probe, one call a minute, works, or fails in a way that is its group's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_TRIPS_AT = 3
"""Different groups in a row whose calls failed."""
_PROBE_S = 60.0


@dataclass
class _Lane:
    failed: dict[str, str] = field(default_factory=dict)
    """Units whose calls failed since the last success, with the messages."""
    whole: bool = False
    """Whether a call for several units failed as a whole."""
    probed: float = 0.0


class CircuitBreaker:
    """Counts each lane's failures that are not its groups' own."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    @property
    def held(self) -> dict[str, str]:
        """Lanes that are held, and why."""
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

    def success(self, lane: str) -> None:
        """Count a call that worked, or failed through its group's fault alone: the lane is whole."""
        self._lanes.pop(lane, None)

    def probes_due(self, steady: float) -> frozenset[str]:
        """Lanes of which it is time to see if they are whole again."""
        return frozenset(name for name in self.held if steady - self._lanes[name].probed >= _PROBE_S)
