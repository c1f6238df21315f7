"""An image calibrated on its field keeps the transit's flux scale: common drifts go, a variable source stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contimg.clean.sources import PointSource
from contimg.core.files import write_json
from contimg.core.paths import DataRoot
from contimg.image import flux_scale
from contimg.image.field_image import FieldImage
from contimg.image.source_subtraction import BrightSource

TRANSIT = "20260125T080000"
SET = f"calibration/2026-01-25/{TRANSIT}/set.json"
FLUX_JY = np.linspace(0.1, 1.2, 12)


def imaged(root: DataRoot, verdict: str, ratio: float, matches: int) -> None:
    """Sidecar of the transit's own image."""
    content = {"verdict": verdict, "catalogue": {"matches": matches, "flux_ratio": ratio}}
    write_json(root.image(TRANSIT, "json"), content)


def test_a_common_drift_goes_and_a_source_that_doubled_stays_double(tmp_path: Path) -> None:
    """All amplitudes have fallen by 9 %, and the brightest source is twice as bright as the catalogue says."""
    true = FLUX_JY * np.where(np.arange(12) == 11, 2, 1)
    scale = flux_scale.tie(0.91**2 * true / FLUX_JY, SET, tmp_path)
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
    scale = flux_scale.tie(np.full(12, 0.8), SET, tmp_path)
    assert scale["transit_ratio"] == expected
    assert scale["factor"] == pytest.approx(expected / 0.8, rel=1e-6)


def test_what_the_ensemble_errs_by_is_no_drift(tmp_path: Path) -> None:
    """Twelve sources that differ from the catalogue by 10 % each move their median by 4 %, and the scale by 2 %."""
    rng = np.random.default_rng(1)
    factors = np.array([flux_scale.tie(rng.normal(1, 0.1, 12), SET, tmp_path)["factor"] for _ in range(300)])
    assert np.std(factors) < 0.028
    still = flux_scale.tie(np.array([0.98, 1.02] * 6), SET, tmp_path)
    assert (still["ratio"], still["factor"]) == (1.0, 1.0)
    assert still["error"] == pytest.approx(1.2533 * 0.02 * 1.4826 / np.sqrt(12), rel=1e-4)
    fallen = np.array([flux_scale.tie(0.83 * rng.normal(1, 0.1, 40), SET, tmp_path)["factor"] for _ in range(100)])
    assert np.median(fallen) == pytest.approx(1 / 0.83, rel=0.02)


def test_few_sources_move_no_scale(tmp_path: Path) -> None:
    scale = flux_scale.tie(np.full(9, 0.8), SET, tmp_path)
    assert (scale["sources"], scale["ratio"], scale["factor"]) == (9, None, 1.0)
    assert scale["note"] == "flux scale not tied to the transit's: 9 sources with a catalogue flux, 10 are needed"
    assert flux_scale.tie(np.full(12, 0.8), SET, tmp_path)["note"] is None
    assert flux_scale.tie(np.zeros(0), SET, tmp_path)["factor"] == 1.0


def test_every_flux_of_the_image_is_scaled_and_nothing_else() -> None:
    plane = np.ones((2, 2))
    bright = [BrightSource(1.0, 0.5, 0.3, 0.6, -0.7)]
    made = FieldImage(plane, plane, plane, 1.0, 1.4e9, None, None, 1e-5, "imager", bright, None)  # type: ignore[arg-type]
    image, found = flux_scale.scaled(made, [PointSource(57.0, 28.0, 0.6, 1e-3, 600.0)], 1.5)
    assert (image.apparent == 1.5).all()
    assert (image.noise == 1.5).all()
    assert image.noise_jy == 1.5
    assert image.primary_beam is plane
    assert image.bright == [BrightSource(1.0, 0.5, pytest.approx(0.45), pytest.approx(0.9), -0.7)]
    assert found == [PointSource(57.0, 28.0, pytest.approx(0.9), pytest.approx(1.5e-3), 600.0)]
