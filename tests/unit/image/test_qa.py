"""Quality: the comparison with a catalogue, and the gates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contimg.core.errors import CatalogueError
from contimg.core.sections import Quality, SkyCatalogue
from contimg.image import qa
from contimg.validation import references
from contimg.validation.gates import Check, Reason
from contimg.validation.validation import Matches, SourceList, Validation, ValidationInput, matches

BEAM_RAD = float(np.radians(20 / 3600))
GATES = Quality()
GOOD = {
    "other_beams": [],
    "noise_jy": 2e-4,
    "thermal_noise_jy": 1.8e-4,
    "dynamic_range": 900.0,
    "comparison": None,
    "conversion": {"degraded": False, "flagged_fraction": 0.02},
    "selection": {"note": None},
    "gates": GATES,
}


def catalogue(folder: Path, rows: list[tuple[float, float, float]]) -> SkyCatalogue:
    path = folder / "sky.csv"
    lines = ["ra_deg,dec_deg,flux_jy,spectral_index", *(f"{ra!r},{dec!r},{flux!r},-1.0" for ra, dec, flux in rows)]
    path.write_text("\n".join(lines) + "\n")
    return SkyCatalogue(path=path)


def field() -> list[tuple[float, float, float]]:
    """Sources around RA 0."""
    rng = np.random.default_rng(4)
    return [(float(ra % 360), float(dec), 0.1 + 0.01 * k) for k, (ra, dec) in enumerate(rng.uniform(-1, 1, (20, 2)))]


def compared(
    rows: list[tuple[float, float, float]], listed: SkyCatalogue, frequency_hz: float = 1.4e9, *, snr: object = 100.0
) -> qa.Comparison:
    """Comparison of sources, as they are, with a catalogue."""
    ra, dec, flux = np.array(rows).T
    sources = SourceList(np.radians(ra), np.radians(dec), flux, np.full(len(ra), np.nan))
    plane = np.zeros((1, 1))
    every = np.broadcast_to(np.asarray(snr, float), ra.shape)
    product = ValidationInput(sources, every, (0.0, 0.0), BEAM_RAD, plane, plane, None, 1.0)
    reference = references.of_catalogue(listed, (0.0, 0.0), np.radians(2), frequency_hz)
    assert reference is not None
    return qa.compare(matches(product, reference.sources), BEAM_RAD)


def test_comparison_measures_scale_and_offset(tmp_path):
    rows = field()
    listed = catalogue(tmp_path, [*rows, (10.0, 10.0, 5.0)])
    # At 2.8 GHz a source of spectral index −1 has half its flux at 1.4 GHz.
    made = compared([(ra, dec + 2 / 3600, flux * 0.55) for ra, dec, flux in rows], listed, 2.8e9)
    assert made.matches == len(rows)
    assert made.flux_ratio == pytest.approx(1.1)
    assert made.flux_scatter == pytest.approx(0, abs=1e-6)  # all are off alike
    assert made.offset_dec_arcsec == pytest.approx(2.0, abs=1e-6)
    assert made.offset_ra_arcsec == pytest.approx(0.0, abs=1e-6)
    assert made.offset_beams == pytest.approx(0.1)


def test_crowded_and_faint_sources_are_not_compared(tmp_path):
    rows = field()
    neighbour = (rows[0][0], rows[0][1] + 30 / 3600, 0.3)
    made = compared(rows, catalogue(tmp_path, [*rows, neighbour]), snr=[100.0, 6.0] + 18 * [100.0])
    assert made.matches == len(rows) - 2
    assert made.flux_scatter == pytest.approx(0.0, abs=1e-6)


def test_no_match_has_no_numbers(tmp_path):
    assert qa.as_content(None) is None
    made = compared(field(), catalogue(tmp_path, [(100.0, 50.0, 1.0)]))
    assert qa.as_content(made) == {
        "matches": 0,
        "flux_ratio": None,
        "flux_scatter": None,
        "offset_ra_arcsec": None,
        "offset_dec_arcsec": None,
        "offset_beams": None,
    }


def test_no_catalogue_is_no_reference_and_an_unreadable_one_is_an_error(tmp_path):
    assert references.of_catalogue(SkyCatalogue(), (0.0, 0.0), 0.1, 1.4e9) is None
    with pytest.raises(CatalogueError, match=r"none\.csv"):
        references.of_catalogue(SkyCatalogue(path=tmp_path / "none.csv"), (0.0, 0.0), 0.1, 1.4e9)


def test_a_good_image_is_clean():
    assert qa.verdict(**GOOD) == ("clean", [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"noise_jy": 4e-4}, "noise is 2.22 × thermal, over 2"),
        ({"noise_jy": float("nan")}, "noise is nan × thermal"),
        ({"noise_jy": 1.35e-4}, "noise is 0.75 × thermal, under 0.85"),
        ({"dynamic_range": 12.0}, "dynamic range is 12, under 50"),
        ({"conversion": {"degraded": True, "flagged_fraction": 0.41}}, "41% of the data is flagged"),
        ({"selection": {"note": "calibrated at declination +16.27 deg"}}, "declination +16.27 deg"),
        ({"comparison": qa.Comparison(9, 1.3, 0.3, 0.1, 0.1, 0.05)}, "fluxes over the catalogue's scatter by 30%"),
        ({"comparison": qa.Comparison(9, 1.0, 0.02, 9.0, 0.1, 0.5)}, "positions differ from the catalogue by 0.50"),
    ],
)
def test_each_gate_degrades_and_says_so(change, said):
    quality, reasons = qa.verdict(**{**GOOD, **change})
    assert quality == "degraded"
    assert len(reasons) == 1
    assert said in reasons[0]


def test_too_few_matches_are_no_gate():
    few = qa.Comparison(2, 2.0, 1.0, 9.0, 9.0, 2.0)
    assert qa.verdict(**{**GOOD, "comparison": few}) == ("clean", [])


def test_a_calibration_of_another_primary_beam_degrades():
    quality, reasons = qa.verdict(**{**GOOD, "other_beams": ["gaussian 3 deg at 1400 MHz"]})
    assert quality == "degraded"
    assert reasons == ["the calibration was solved with another primary beam (gaussian 3 deg at 1400 MHz)"]


@pytest.mark.parametrize("matches", [None, 2, 9])
def test_soft_limits_are_the_settings_where_they_are_checked_against_a_catalogue(matches: int | None) -> None:
    """Against the day before, only the validation sees that fluxes scatter and positions are off.

    The settings have a limit of the peak over the noise, none of the peak over the scatter around it.
    """
    checks = [
        Check.of(Reason.FLUX_SCATTER, 0.3),
        Check.of(Reason.POSITION, 0.2),
        Check.of(Reason.NOISE_HIGH, 3.0),
        Check.of(Reason.BEAM, -0.1),
        Check.of(Reason.LOCAL_DYNAMIC_RANGE, 20.0),
    ]
    made = Validation("day before", BEAM_RAD, checks, Matches(*(np.zeros(0),) * 8), {}, {})
    comparison = None if matches is None else qa.Comparison(matches, 1.0, 0.02, 0.1, 0.1, 0.05)
    said = [line.split()[1] for line in qa.validation_reasons(made, comparison)]
    assert said == [*([] if matches == 9 else ["flux_scatter", "position"]), "beam", "local_dynamic_range"]
