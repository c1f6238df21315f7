"""An image calibrated on its field keeps the transit's flux scale: common drifts go, a variable source stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contimg.clean.sources import PointSource
from contimg.core.files import write_json
from contimg.core.paths import DataRoot
from contimg.core.sections import SkyCatalogue
from contimg.image import flux_scale, qa

TRANSIT = "20260125T080000"
SET = f"calibration/2026-01-25/{TRANSIT}/set.json"
FLUX_JY = np.linspace(0.1, 1.2, 12)
PLACES_DEG = [(10.0 + 0.1 * (number % 4), 16.0 + 0.1 * (number // 4)) for number in range(12)]


def compared(folder: Path, flux_jy: np.ndarray) -> qa.Comparison:
    """Comparison of the sources, as bright as given, with a catalogue of their usual fluxes."""
    path = folder / "sky.csv"
    rows = (f"{ra},{dec},{flux},-0.7" for (ra, dec), flux in zip(PLACES_DEG, FLUX_JY, strict=True))
    path.write_text("\n".join(["ra_deg,dec_deg,flux_jy,spectral_index", *rows]) + "\n")
    sources = [PointSource(*place, flux, 1e-3, 100.0) for place, flux in zip(PLACES_DEG, flux_jy, strict=False)]
    beam_rad = float(np.radians(20 / 3600))
    made = qa.compare(sources, SkyCatalogue(path=path), frequency_hz=1.4e9, beam_rad=beam_rad)
    assert made is not None
    return made


def imaged(root: DataRoot, verdict: str, ratio: float, matches: int) -> None:
    """Sidecar of the transit's own image."""
    content = {"verdict": verdict, "catalogue": {"matches": matches, "flux_ratio": ratio}}
    write_json(root.image(TRANSIT, "json"), content)


def test_a_common_drift_goes_and_a_source_that_doubled_stays_double(tmp_path: Path) -> None:
    """All amplitudes have fallen by 9 %, and the brightest source is twice as bright as the catalogue says."""
    true = FLUX_JY * np.where(np.arange(12) == 11, 2, 1)
    scale = flux_scale.tie(compared(tmp_path, 0.91**2 * true), SET, tmp_path)
    assert (scale["sources"], scale["transit"], scale["transit_ratio"]) == (12, TRANSIT, 1.0)
    np.testing.assert_allclose(scale["factor"] * 0.91**2 * true, true, rtol=0.05)
    assert scale["factor"] * 0.91**2 * true[11] == pytest.approx(2 * FLUX_JY[11], rel=0.05)


@pytest.mark.parametrize(
    ("verdict", "matches", "expected"), [("fresh", 14, 1.04), ("fresh", 9, 1.0), ("stale", 14, 1.0)]
)
def test_the_scale_is_that_of_the_transit_s_image(
    tmp_path: Path, verdict: str, matches: int, expected: float
) -> None:
    imaged(DataRoot(tmp_path), verdict, 1.04, matches)
    scale = flux_scale.tie(compared(tmp_path, 0.8 * FLUX_JY), SET, tmp_path)
    assert scale["transit_ratio"] == expected
    assert scale["factor"] == pytest.approx(expected / 0.8, rel=1e-6)


def test_few_sources_move_no_scale(tmp_path: Path) -> None:
    scale = flux_scale.tie(compared(tmp_path, 0.8 * FLUX_JY[:9]), SET, tmp_path)
    assert (scale["sources"], scale["ratio"], scale["factor"]) == (9, None, 1.0)
    assert flux_scale.tie(None, SET, tmp_path)["factor"] == 1.0
