"""Pointing track of a group: a stretch of integrations at one declination, while the sky drifts by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contimg.core import files
from contimg.core.errors import ContimgError
from contimg.ingest.manifest import Frame
from contimg.telescope import dsa110

SAME_POINTING_DEG = 0.5
"""Largest difference in declination (deg) within one pointing."""


@dataclass(frozen=True)
class Drift:
    """Drift scan of a group: a stretch of integrations at one declination, from which its field of view follows."""

    start_jd: float
    """UTC Julian date of the first integration's middle."""
    integrations: int
    integration_s: float
    declination_deg: float
    """Apparent declination of the pointing (deg)."""

    @classmethod
    def of_group(cls, manifest: Path) -> Drift:
        """Drift of the group that a manifest describes.

        Raises
        ------
        ContimgError
            If the manifest lacks a time or the declination.
        """
        content = files.read_json(manifest)
        keys = ("start_jd", "integrations", "integration_s", "declination_deg")
        if missing := [key for key in keys if content.get(key) is None]:
            raise ContimgError(f"{manifest}: does not say {', '.join(missing)}; the group waits for its next scan")
        return cls(*(content[key] for key in keys))

    @classmethod
    def of_frame(cls, frame: Frame | None, group: str) -> Drift:
        """Drift of a group from the frame of its files.

        Raises
        ------
        ContimgError
            If no file gives a time.
        """
        if frame is None:
            raise ContimgError(f"{group}: no file says when it was observed; the group waits for its next scan")
        return cls(frame.start_jd, frame.integrations, frame.integration_s, frame.declination_deg)

    @classmethod
    def centred(cls, middle_jd: float, declination_deg: float) -> Drift:
        """Drift of a full group around its middle (UTC Julian date)."""
        half_days = (dsa110.INTEGRATIONS - 1) / 2 * dsa110.INTEGRATION_S / 86400
        return cls(middle_jd - half_days, dsa110.INTEGRATIONS, dsa110.INTEGRATION_S, declination_deg)

    @property
    def declination_rad(self) -> float:
        """Apparent declination of the pointing (rad)."""
        return float(np.radians(self.declination_deg))

    @property
    def times_jd(self) -> np.ndarray:
        """UTC Julian dates of the integrations' middles, shape (T,)."""
        return self.start_jd + np.arange(self.integrations) * self.integration_s / 86400

    @property
    def middle_jd(self) -> float:
        """UTC Julian date of the group's middle."""
        return self.start_jd + (self.integrations - 1) / 2 * self.integration_s / 86400

    @property
    def edges_jd(self) -> np.ndarray:
        """Start of the first integration and end of the last one, UTC Julian dates, shape (2,).

        The end is computed as the next group's start would be: contiguous groups share their edge to the bit.
        """
        starts = np.array([self.start_jd, self.start_jd + self.integrations * self.integration_s / 86400])
        return starts - self.integration_s / 2 / 86400
