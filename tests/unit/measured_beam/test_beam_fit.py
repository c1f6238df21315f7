"""The primary beam from drifting sources: injected truth found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import source_lists
from source_lists import Pointing

from contimg.cli import main
from contimg.core import config
from contimg.core.paths import DataRoot
from contimg.core.sections import Beam
from contimg.measured_beam import beam_evidence, beam_fit
from contimg.measured_beam.beam_fit import NAMES, BeamModel
from contimg.telescope import beam, meridian
from contimg.telescope.beam import PrimaryBeam

ASSUMED = beam.of(Beam())
REALISATIONS = 10
FIRST, SECOND = Pointing("20260112T080200", 128.7, 54.57, 16), Pointing("20260113T081000", 131.7, 55.77, 14)


def truth(*values: float) -> PrimaryBeam:
    return PrimaryBeam("truth", BeamModel(np.array(values)).power, Beam())


def test_the_family_has_the_beams_that_are_known() -> None:
    angle = np.radians(np.linspace(0, 2.0, 30))
    airy = BeamModel(np.array([3.2, 3.2, 0, 0, 0.0]))
    assert airy.power(0 * angle, angle, 1.4e9) == pytest.approx(ASSUMED.radial(angle, 1.4e9), abs=2e-3)
    assert airy.power(angle, 0 * angle, 1.5e9) == pytest.approx(ASSUMED.radial(angle, 1.5e9), abs=2e-3)
    moved = BeamModel(np.array([2.8, 3.2, 0.1, -0.2, 1.0]))
    assert moved.power(np.radians(0.1), np.radians(-0.2), 1.4e9) == pytest.approx(1)
    assert moved.power(np.radians(0.1 + 1.4), np.radians(-0.2), 1.4e9) == pytest.approx(0.5, abs=1e-3)
    assert moved.power(np.radians(0.1), np.radians(-0.2 + 1.6), 1.4e9) == pytest.approx(0.5, abs=1e-3)


def collected(folder: Path, seen: PrimaryBeam, *, catalogue: bool = False, off: tuple[float, float] = (0, 0)):
    """Two pointings' source lists, and the sky as a catalogue with a scatter of 10 %."""
    root = DataRoot(folder)
    rng = np.random.default_rng(8)
    sky = source_lists.sky(FIRST, 1500)
    for pointing in (FIRST, SECOND):
        factors = np.exp(rng.normal(size=pointing.groups) * 0.02)
        source_lists.write(
            root, pointing, sky, seen, ASSUMED, pointed_off_deg=off, factors=factors, seed=pointing.groups
        )
    content: dict[str, object] = {"data_root": str(folder)}
    if catalogue:
        rows = [
            f"S{number},{np.degrees(ra):.6f},{np.degrees(dec):.6f},{flux * np.exp(0.1 * rng.normal()):.6f}"
            for number, (ra, dec, flux) in enumerate(zip(sky.ra_rad, sky.dec_rad, sky.flux_jy, strict=True))
        ]
        (folder / "sky.csv").write_text("\n".join(["name,ra_deg,dec_deg,flux_jy", *rows]) + "\n")
        content["sky_catalogue"] = {"path": str(folder / "sky.csv")}
    settings = config.validated(content, {})
    return beam_evidence.collect(root, settings.beam, settings.sky_catalogue, [])


WIDE, HIGH, EAST, NORTH, TAPER = ELLIPSE = 2.72, 2.95, 4 / 60, -6 / 60, 0.6


@pytest.fixture(scope="module")
def ellipse(tmp_path_factory: pytest.TempPathFactory) -> beam_evidence.Collected:
    """An elliptical beam that points elsewhere, two declinations, and a catalogue."""
    folder = tmp_path_factory.mktemp("ellipse")
    return collected(folder, truth(WIDE, HIGH, 0, 0, TAPER), catalogue=True, off=(EAST, NORTH))


def test_an_elliptical_beam_that_points_elsewhere_is_found_again(ellipse: beam_evidence.Collected) -> None:
    assert ellipse.images == FIRST.groups + SECOND.groups
    fitted = beam_fit.fit(ellipse.evidence)
    found = dict(zip(NAMES, fitted.model.values, strict=True))
    errors = dict(zip(NAMES, fitted.errors, strict=True))
    assert found["width_east_deg"] == pytest.approx(WIDE, rel=0.01)
    assert found["width_north_deg"] == pytest.approx(HIGH, rel=0.01)
    assert found["offset_east_deg"] == pytest.approx(EAST, abs=1 / 60)
    assert found["offset_north_deg"] == pytest.approx(NORTH, abs=1 / 60)
    assert found["taper"] == pytest.approx(TAPER, abs=5 * errors["taper"])
    for name, value in zip(NAMES, ELLIPSE, strict=True):
        assert abs(found[name] - value) < 5 * errors[name]
    assert fitted.scatter == pytest.approx(1, abs=0.25)


def test_stated_errors_are_those_of_many_realisations(ellipse: beam_evidence.Collected) -> None:
    """Noise that is half as large again as the lists say, image factors of 2 %; 120 give 0.99 to 1.03 σ a value."""
    made = ellipse.evidence.chosen(ellipse.evidence.image % 2 == 0)  # every other image, and the catalogue
    through = beam_fit.log_power(truth(*ELLIPSE).power, made)
    rng = np.random.default_rng(5)
    off = []
    for _ in range(REALISATIONS):
        factors = 0.02 * rng.normal(size=made.image.max() + 3)
        noise = 1.5 * made.error * rng.normal(size=len(made.error)) + factors[made.image]
        fitted = beam_fit.fit(replace(made, log_apparent=through + noise))
        off.append((fitted.model.values - ELLIPSE) / fitted.errors)
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(1, abs=0.3)
    assert (np.sqrt(np.mean(np.square(off), axis=0)) < 2).all()


def test_two_declinations_need_no_catalogue(tmp_path: Path) -> None:
    off = 5 / 60, -4 / 60
    fitted = beam_fit.fit(collected(tmp_path, truth(2.72, 2.85, 0, 0, 0.0), off=off).evidence)
    for name, width, offset in zip(("east", "north"), (2.72, 2.85), off, strict=True):
        assert fitted.value(f"width_{name}_deg")[0] == pytest.approx(width, rel=0.01)
        assert fitted.value(f"offset_{name}_deg")[0] == pytest.approx(offset, abs=1 / 60)
    found = beam_fit.off_by(fitted, ASSUMED)
    assert found["width"] == pytest.approx(3.2 / np.sqrt(2.72 * 2.85) - 1, abs=0.02)
    assert found["low"] < -0.2


def test_the_command_prints_values_and_writes_a_table_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collected(tmp_path, truth(2.72, 2.72, 0, 0, 0.0))
    DataRoot(tmp_path).image(FIRST.names()[3], "sources.csv").write_text("damaged")
    data, output = ["--data-root", str(tmp_path)], tmp_path / "fitted"
    assert main(["beam", "fit", *data, "--output", str(output)]) == 0
    said = capsys.readouterr()
    assert "29 images" in said.out
    assert "the setting (airy 3.2 deg at 1400 MHz) is +1" in said.out
    assert "sources.csv" in said.err
    assert (output / "beam.png").read_bytes().startswith(b"\x89PNG")
    table = beam.of(Beam(model="table", table=output / "beam.hdf5"))
    assert 2 * np.degrees(table.half_power_rad(1.4e9)) == pytest.approx(2.72, rel=0.02)
    assert main(["beam", "fit", "2026-02-01", *data, "--output", str(output)]) == 1
    assert "no source is in two images" in capsys.readouterr().err


def test_the_right_setting_is_said_to_be_right(tmp_path: Path) -> None:
    fitted = beam_fit.fit(collected(tmp_path, ASSUMED).evidence)
    assert beam_fit.off_by(fitted, ASSUMED)["width"] == pytest.approx(0, abs=0.015)


def test_a_calibrators_gains_have_its_course_through_the_beam() -> None:
    """A set solved with a beam of 3.2 degrees, while the sky is seen through a narrower one that points elsewhere."""
    seen = BeamModel(np.array([2.72, 2.72, 0.3, 0.0, 0.0]))
    times_jd = 2461052.875 + np.linspace(-140, 140, 6) / 86400
    ra, dec = meridian.pointing(times_jd[2:3], np.radians(54.57))
    calibrator = {"ra_deg": float(np.degrees(ra[0])), "dec_deg": float(np.degrees(dec[0])) + 0.9}
    places = beam.offsets(
        np.radians(calibrator["ra_deg"]),
        np.radians(calibrator["dec_deg"]),
        *meridian.pointing(times_jd, np.radians(54.57)),
    )
    rng = np.random.default_rng(1)
    ratio = seen.power(*places, 1.405e9) / ASSUMED.power(*places, 1.405e9)
    amplitude = (
        np.sqrt(ratio)[:, None, None]
        * rng.uniform(0.8, 1.2, (1, 60, 2))
        * np.exp(0.005 * rng.normal(size=(6, 60, 2)))
    )
    amplitude[:, 5] = np.nan
    mjd_s = (times_jd - 2400000.5) * 86400
    evidence = beam_evidence.of_gains(mjd_s, amplitude, calibrator, 54.57, ASSUMED)
    assert evidence is not None
    course = evidence.log_apparent - beam_fit.log_power(seen.power, evidence)
    assert np.ptp(course) < 0.01
    assumed = evidence.log_apparent - beam_fit.log_power(ASSUMED.power, evidence)
    assert np.ptp(assumed) > 0.03
    offset, error = beam_fit.fit(evidence).value("offset_east_deg")
    assert offset == pytest.approx(0.3, abs=error)
    assert 0.01 < error < 0.05  # half a percent of gain drift in five minutes looks like an arcminute
    assert beam_evidence.of_gains(mjd_s[:1], amplitude[:1], calibrator, 54.57, ASSUMED) is None
