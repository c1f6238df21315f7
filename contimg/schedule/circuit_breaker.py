"""When everything fails, no group is to blame: the workflow is held and probed, instead of giving groups up."""

from __future__ import annotations

from dataclasses import dataclass, field

_TRIPS_AT = 3
"""So many different groups in a row whose calls failed for reasons that may not be theirs."""
_PROBE_S = 60.0


@dataclass
class Breaker:
    """Counts failures that may not be their groups' own: Snakemake's, and those of the configuration."""

    failed: dict[str, str] = field(default_factory=dict)
    """Groups whose calls failed so since the last success, with what was said."""
    probed: float = 0.0

    @property
    def held(self) -> str:
        """Why work is held; empty if it is not."""
        if len(self.failed) < _TRIPS_AT:
            return ""
        last = list(self.failed.values())[-1]
        return f"held: the workflow itself fails, for {len(self.failed)} groups in a row: {last}"

    def failure(self, unit: str, message: str, steady: float) -> None:
        """A call failed in such a way."""
        self.failed[unit] = message
        self.probed = steady

    def success(self) -> None:
        """Something was made: the workflow is whole."""
        self.failed.clear()

    def probe_due(self, steady: float) -> bool:
        """Whether it is time to see if the workflow is whole again."""
        return steady - self.probed >= _PROBE_S
