"""The Measurement Set is right for CASA, AOFlagger and WSClean.

python-casacore and casatools must not meet: whatever needs either runs in a process of its own.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw_groups as raw
from converted_group import Call, Converted, columns, converted, cube

from contimg.catalogues.source import Source
from contimg.core.sections import Beam
from contimg.simulator import simulator
from contimg.telescope import beam, dsa110, meridian, stations
from contimg.telescope.raw_header import read_header


def test_rows_and_weights(medium: Converted, casacore: Call) -> None:
    values = casacore(
        cube, medium.ms, 24, "ANTENNA1", "ANTENNA2", "DATA", "WEIGHT", "SIGMA", "EXPOSURE", "INTERVAL", "TIME", "UVW"
    )
    first, second = values["ANTENNA1"][0], values["ANTENNA2"][0]
    assert (values["ANTENNA1"] == first).all()
    assert (values["ANTENNA2"] == second).all()
    assert (first <= second).all()
    assert (np.diff(first * 1000 + second) > 0).all()
    assert len(first) == 21 * 22 // 2
    auto = first == second
    assert (values["DATA"][:, auto].imag == 0).all()
    assert (values["DATA"][:, auto].real > 0).all()
    assert (values["UVW"][:, auto] == 0).all()
    assert (values["EXPOSURE"] == dsa110.INTEGRATION_S).all()
    assert (values["INTERVAL"] == dsa110.INTEGRATION_S).all()
    np.testing.assert_allclose(np.diff(values["TIME"][:, 0]), dsa110.INTEGRATION_S, atol=1e-4)
    np.testing.assert_allclose(values["WEIGHT"] * values["SIGMA"] ** 2, 1, rtol=1e-5)
    # The simulated noise, gains of about 1, is what SIGMA says of real and imaginary part.
    cross = values["DATA"][:, ~auto]
    noise = np.diff(cross, axis=2).imag.std() / np.sqrt(2)
    assert np.median(values["SIGMA"][:, ~auto]) == pytest.approx(noise, rel=0.1)
    assert values["SIGMA"][0, auto].mean() == pytest.approx(np.sqrt(2) * values["SIGMA"][0, ~auto].mean(), rel=1e-5)


def seen_by_casa(ms: Path, table: Path) -> dict[str, Any]:
    from contimg.visibilities import casa

    tools, tasks = casa.tools(), casa.tasks()
    metadata = tools.msmetadata()
    metadata.open(str(ms))
    position = metadata.antennaposition(5)
    seen = {
        "names": metadata.antennanames(),
        "stations": metadata.antennastations(),
        "diameter_m": metadata.antennadiameter(5)["value"],
        "itrf_m": [position[axis]["value"] for axis in ("m0", "m1", "m2")],
        "telescope": metadata.observatorynames(),
        "fields": metadata.fieldnames(),
        "centre": metadata.phasecenter(0),
        "frequencies_hz": metadata.chanfreqs(0),
        "widths_hz": metadata.chanwidths(0),
        "correlations": metadata.corrtypesforpol(0),
        "scans": metadata.scannumbers(),
        "intents": metadata.intents(),
        "exposure_s": metadata.exposuretime(1, 0)["value"],
    }
    metadata.close()
    listing = tasks.listobs(str(ms))
    seen["begin_mjd"] = listing["BeginTime"]
    pointing = tools.table()
    pointing.open(f"{ms}/POINTING")
    seen["pointing"] = pointing.getcol("DIRECTION")[:, 0, :]
    seen["pointing_frame"] = pointing.getcolkeyword("DIRECTION", "MEASINFO")["Ref"]
    seen["pointing_times"] = pointing.getcol("TIME")
    seen["pointing_antennas"] = pointing.getcol("ANTENNA_ID")
    pointing.close()
    tasks.gaincal(str(ms), str(table), solint="inf", refant="1", minsnr=0, combine="scan")
    solutions = tools.table()
    solutions.open(str(table))
    seen["solved"] = ~solutions.getcol("FLAG").all(axis=(0, 1))
    solutions.close()
    return seen


def test_casa_reads_it(medium: Converted, in_process: Call, tmp_path: Path) -> None:
    seen = in_process(seen_by_casa, medium.ms, tmp_path / "gains")
    header = read_header(next((medium.root / "incoming").iterdir()))
    assert tuple(seen["names"]) == stations.NAMES
    assert seen["stations"][4] == "DSA-005"
    assert seen["diameter_m"] == pytest.approx(4.65)
    longitude, latitude, radius = seen["itrf_m"]
    expected = stations.array_centre() + stations.positions()[5]
    assert radius == pytest.approx(np.linalg.norm(expected), abs=1e-3)
    assert np.arctan2(expected[1], expected[0]) == pytest.approx(longitude, abs=1e-9)
    assert np.arcsin(expected[2] / radius) == pytest.approx(latitude, abs=1e-9)
    assert seen["telescope"] == ["OVRO_MMA"]
    assert seen["fields"] == ["20260112T080000"]
    centre = meridian.group_centre(header.times_jd, header.declination_rad)
    assert seen["centre"]["refer"] == "ICRS"
    assert (seen["centre"]["m0"]["value"], seen["centre"]["m1"]["value"]) == pytest.approx(
        (centre[0] - 2 * np.pi * (centre[0] > np.pi), centre[1]), abs=1e-9
    )
    assert (np.diff(seen["frequencies_hz"]) > 0).all()
    assert len(seen["frequencies_hz"]) == 192
    np.testing.assert_allclose(seen["widths_hz"], raw.MEDIUM.channel_width_hz)
    assert list(seen["correlations"]) == [9, 12]
    assert list(seen["scans"]) == [1]
    assert seen["intents"] == ["OBSERVE_TARGET#ON_SOURCE"]
    assert seen["exposure_s"] == pytest.approx(dsa110.INTEGRATION_S)
    assert (seen["begin_mjd"] - 61052) * 24 == pytest.approx(8, abs=1e-4)
    ra, dec = meridian.pointing(header.times_jd, header.declination_rad)
    first = seen["pointing_antennas"] == seen["pointing_antennas"][0]
    np.testing.assert_allclose(np.mod(seen["pointing"][0, first], 2 * np.pi), ra, atol=1e-9)
    np.testing.assert_allclose(seen["pointing"][1, first], dec, atol=1e-9)
    assert seen["pointing_frame"] == "ICRS"
    assert len(set(seen["pointing_antennas"])) == 21
    assert seen["solved"].sum() == 21


def without_flags(ms: Path) -> None:
    from casacore import tables

    with tables.table(str(ms), ack=False, readonly=False) as table:
        table.putcol("FLAG", np.zeros_like(table.getcol("FLAG")))


@pytest.mark.skipif(shutil.which("aoflagger") is None, reason="AOFlagger is not installed")
def test_aoflagger_finds_the_interference_in_it(tmp_path: Path, casacore: Call) -> None:
    made = converted(casacore, tmp_path, raw.MEDIUM, {}, interference=simulator.Interference(persistent=2, bursts=0))
    ours = casacore(columns, made.ms, "FLAG")["FLAG"]
    casacore(without_flags, made.ms)
    subprocess.run(["aoflagger", made.ms], check=True, capture_output=True)
    theirs = casacore(columns, made.ms, "FLAG")["FLAG"]
    channels = [
        (15 - event["subband"]) * raw.MEDIUM.channels + raw.MEDIUM.channels - 1 - event["first_channel"]
        for event in made.truth["groups"][0]["rfi"]
    ]
    assert len(channels) == 2
    for flags in (ours, theirs):
        assert flags[:, channels].mean() > 0.9
        assert np.delete(flags, channels, axis=1).mean() < 0.05


@pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is not installed")
def test_wsclean_finds_the_source_where_it_is(tmp_path: Path, casacore: Call) -> None:
    """The peak of the dirty image is the mean of the visibilities: no deconvolution between them and the truth."""
    from astropy.io import fits
    from astropy.wcs import WCS

    source = Source("A", 114.25, 54.9, 10.0, -0.5)
    noiseless = simulator.Noise(enabled=False)
    made = converted(
        casacore, tmp_path, simulator.SMALL, {}, sky=[source], corruptions=simulator.PERFECT, noise=noiseless
    )
    subprocess.run(
        ["wsclean", "-name", tmp_path / "image", "-size", "800", "800", "-scale", "8asec", "-weight", "natural",
         "-no-update-model-required", "-quiet", made.ms],
        check=True,
    )  # fmt: skip
    with fits.open(tmp_path / "image-image.fits") as image:
        plane, wcs = image[0].data[0, 0], WCS(image[0].header).celestial
    y, x = np.unravel_index(plane.argmax(), plane.shape)
    peak, offsets = plane[y, x], []
    for minus, plus in ((plane[y, x - 1], plane[y, x + 1]), (plane[y - 1, x], plane[y + 1, x])):
        # Parabola through the peak's neighbours.
        offsets.append(0.5 * (minus - plus) / (minus + plus - 2 * plane[y, x]))
        peak -= 0.25 * (minus - plus) * offsets[-1]
    ra, dec = np.radians(wcs.pixel_to_world_values(x + offsets[0], y + offsets[1]))
    away = beam.separation(ra, dec, np.radians(source.ra_deg), np.radians(source.dec_deg))
    assert np.degrees(away) * 3600 < 1, "arcsec; the beam is a hundred times as wide"
    header = read_header(next((tmp_path / "incoming").iterdir()))
    towards = meridian.pointing(header.times_jd, header.declination_rad)
    separation = beam.separation(*towards, np.radians(source.ra_deg), np.radians(source.dec_deg))
    frequencies = np.concatenate([dsa110.subband_frequencies(subband, 6) for subband in range(16)])
    flux = (beam.of(Beam()).radial(separation[:, None], frequencies) * source.flux(frequencies)).mean()
    assert peak == pytest.approx(flux, rel=0.003)
