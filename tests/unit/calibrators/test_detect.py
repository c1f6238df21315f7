"""Detection: what a direct calculation finds is found, ranked by beam-weighted flux; what cannot serve is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import TETE, EarthLocation, SkyCoord
from astropy.time import Time
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import j1

from contimg.calibrators.detect import DetectionSettings, detect, judge
from contimg.calibrators.transit_geometry import BAND_CENTRE_HZ, SIDEREAL_DAY, next_transit
from contimg.catalogues.calibrator import Calibrator, FluxModel
from contimg.catalogues.calibrator_catalogue import load_table
from contimg.catalogues.vla_manual import read as read_manual
from contimg.core.config import Settings
from contimg.core.paths import group_id, jd_to_datetime
from contimg.core.sections import Calibration, SkyCatalogue
from contimg.ingest.pointing_track import Drift
from contimg.telescope import dsa110
from contimg.telescope.meridian import sidereal_time

LOCATION = EarthLocation.from_geodetic(dsa110.LONGITUDE_DEG, dsa110.LATITUDE_DEG, dsa110.ELEVATION_M)
START_JD = 2461065.5 + 0.9
"""2026 January 25, 21:36 UTC: the sidereal day that follows crosses midnight and the Julian date's noon."""
GROUP_DAYS = dsa110.INTEGRATIONS * dsa110.INTEGRATION_S / 86400
GROUPS = 279
"""Contiguous groups that fill a sidereal day."""


def _settings(root: Path, *lists: Path, sky: Path | None = None, **calibration: float) -> DetectionSettings:
    settings = Settings(
        data_root=root,
        calibration=Calibration(catalogues=lists, **calibration),  # type: ignore[arg-type]
        sky_catalogue=SkyCatalogue(path=sky),
    )
    return settings.part(DetectionSettings)


def _manifest(root: Path, drift: Drift) -> Path:
    path = root / "groups" / f"{group_id(jd_to_datetime(drift.start_jd))}.json"
    path.parent.mkdir(exist_ok=True)
    content = {
        "group": path.stem,
        "state": "complete",
        "start_jd": drift.start_jd,
        "integrations": drift.integrations,
        "integration_s": drift.integration_s,
        "declination_deg": drift.declination_deg,
    }
    path.write_text(json.dumps(content))
    return path


def _source(name: str, ra_deg: float, dec_deg: float, flux_jy: float, compact: bool = True) -> Calibrator:
    return Calibrator(name, ra_deg % 360, dec_deg, FluxModel.power_law(flux_jy, 0.0, "test"), compact)


def _sexagesimal(ra_deg: float, dec_deg: float) -> str:
    position = SkyCoord(ra_deg * u.deg, dec_deg * u.deg)
    ra = position.ra.to_string(u.hour, sep=("h", "m", "s"), precision=6, pad=True)
    dec = position.dec.to_string(u.deg, sep=("d", "'", '"'), precision=5, pad=True)
    return f"{ra} {dec if dec[0] == '-' else ' ' + dec.lstrip('+')}"


def _manual_text(random: np.random.Generator) -> str:
    """A catalogue over the whole sky, denser at the telescope's declinations, in the manual's form."""
    dec = np.degrees(np.arcsin(random.uniform(-0.2, 1, 300)))
    for declination in (16.27, 50.5, 54.57, 65.7):
        dec = np.append(dec, declination + random.uniform(-3, 3, 60))
    ra = random.uniform(0, 360, dec.size)
    ra[:40] = random.uniform(-0.5, 0.5, 40) % 360
    lines = []
    for number, (a, d) in enumerate(zip(ra, dec, strict=True)):
        lines.append(f"\nS{number:04d}     J2000  A {_sexagesimal(a, d)}  Aug01")
        lines.append("BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)")
        if number % 5:
            lines.append(f" 20cm    L  P P P P       {random.lognormal(0.7, 0.8):.2f}")
        lines.append("  6cm    C  P P P P       1.00")
    return "\n".join(lines) + "\n"


def _direct(sources: list[Calibrator], declination_deg: float) -> dict[int, list[tuple[float, str]]]:
    """By astropy alone: (apparent flux, name) of each source that transits, ranked, by the group it transits in."""

    def apparent(times_jd: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        time = Time(times_jd, format="jd", scale="utc", location=LOCATION)
        place = icrs.transform_to(TETE(obstime=time, location=LOCATION))
        return time.sidereal_time("apparent").rad, place.ra.rad, place.dec.rad

    icrs = SkyCoord([s.ra_deg for s in sources] * u.deg, [s.dec_deg for s in sources] * u.deg)
    edge = START_JD - dsa110.INTEGRATION_S / 2 / 86400
    days_per_rad = 0.99726957 / (2 * np.pi)
    sidereal, ra, _ = apparent(np.full(len(sources), edge))
    transit = edge + np.mod(ra - sidereal, 2 * np.pi) * days_per_rad
    sidereal, ra, dec = apparent(transit)
    transit += (np.mod(ra - sidereal + np.pi, 2 * np.pi) - np.pi) * days_per_rad
    group = np.floor((transit - edge) / GROUP_DAYS).astype(int)
    times = START_JD + group[:, None] * GROUP_DAYS + np.arange(24) * dsa110.INTEGRATION_S / 86400
    hour_angle = (times - transit[:, None]) / days_per_rad
    # Distance from the meridian point (hour angle 0, pointing declination), all in the apparent frame.
    pointing = np.radians(declination_deg)
    cosine = np.sin(dec)[:, None] * np.sin(pointing) + np.cos(dec)[:, None] * np.cos(pointing) * np.cos(hour_angle)
    half_width = np.radians(1.6) * 1.4e9 / BAND_CENTRE_HZ
    x = 1.61633995 * np.sin(np.arccos(cosine)) / np.sin(half_width)
    beam = np.where((x < 3.8317) & (cosine > 0), (2 * j1(x) / x) ** 2, 0).mean(axis=1)
    found: dict[int, list[tuple[float, str]]] = {}
    for index, source in enumerate(sources):
        if beam[index] > 0:
            found.setdefault(int(group[index]), []).append(
                (float(source.flux(BAND_CENTRE_HZ) * beam[index]), source.name)
            )
    return {number: sorted(entries, reverse=True) for number, entries in found.items()}


@pytest.mark.parametrize("declination_deg", [16.27, 50.5, 54.57, 65.7])
def test_a_sidereal_day_finds_what_a_direct_calculation_finds(tmp_path: Path, declination_deg: float) -> None:
    """On the VLA manual's own sources at these declinations, among others strewn over the whole sky."""
    path = tmp_path / "manual.txt"
    path.write_text(_manual_text(np.random.default_rng(5)))
    strewn = read_manual(path)
    assert len(strewn) == 432
    sources = [*strewn, *load_table()]
    settings = _settings(tmp_path, path)
    direct = _direct(sources, declination_deg)
    bright = 0
    end_jd = START_JD - dsa110.INTEGRATION_S / 2 / 86400 + SIDEREAL_DAY
    for number in range(GROUPS):
        drift = Drift(START_JD + number * GROUP_DAYS, 24, dsa110.INTEGRATION_S, declination_deg)
        candidates = [found for found in judge(drift, sources, settings)[1] if found.transit_jd < end_jd]
        expected = direct.get(number, [])
        # Fluxes agree to a part in a thousand, so the order is the same unless two are that near to each other.
        ours = {c.seen.source.name: c.seen.apparent_flux_jy for c in candidates}
        theirs = {name: flux for flux, name in expected}
        names = {*ours, *theirs}  # what one of them has not is next to the beam's null
        assert {name: ours.get(name, 0.0) for name in names} == pytest.approx(
            {name: theirs.get(name, 0.0) for name in names}, rel=2e-3, abs=1e-3
        )
        assert [*ours] == sorted(ours, key=lambda name: -ours[name])
        if [c for c in candidates if c.seen.apparent_flux_jy >= 1]:
            bright += 1
            assert candidates[0].seen.source.name == expected[0][1]
    assert bright > 15


def test_detect_writes_the_contract(tmp_path: Path) -> None:
    [transit] = next_transit(START_JD, np.radians([128.7287672]), np.radians([55.5725197]))
    drift = replace(Drift.centred(transit, 54.57), start_jd=transit - 0.001)
    content = detect(_manifest(tmp_path, drift), _settings(tmp_path))
    found = content["calibrator"]
    assert content["group"] == group_id(jd_to_datetime(drift.start_jd))
    assert found["name"] == "J0834+5534"
    assert found["flux_jy"] == pytest.approx(8.8)
    assert found["separation_deg"] == pytest.approx(0.91, abs=0.02)
    assert 6 < found["apparent_flux_jy"] < 8
    assert abs(jd_to_datetime(transit).timestamp() - _timestamp(found["transit_utc"])) < 0.01
    assert FluxModel.from_json(found["flux_model"]).flux(1.4e9) == pytest.approx(8.8)
    assert content["reason"].startswith("J0834+5534 transits at ")
    assert json.loads(json.dumps(content)) == content
    elsewhere = detect(_manifest(tmp_path, replace(drift, start_jd=drift.start_jd + 0.1)), _settings(tmp_path))
    assert elsewhere["calibrator"] is None
    assert "no catalogue source within 3.8° of declination +54.57° transits between" in elsewhere["reason"]


def _timestamp(text: str) -> float:
    return Time(text[:-6], scale="utc").unix


def _judged(sources: list[Calibrator], settings: DetectionSettings) -> tuple[list[str], dict[str, str]]:
    """Names of those that serve, and all reasons, in a group in the middle of which right ascension 40° transits."""
    [transit] = next_transit(START_JD, np.radians([40.0]), np.radians([54.57]))
    _, candidates = judge(Drift.centred(transit, 54.57), sources, settings)
    reasons = {c.seen.source.name: c.reason for c in candidates}
    return [c.seen.source.name for c in candidates if c.serves], reasons


def test_faint_and_extended_candidates_are_refused(tmp_path: Path) -> None:
    sources = [
        _source("faint", 40, 54.6, 0.9),
        _source("far", 40, 52.0, 3.0),  # 0.5 Jy through the beam
        _source("wide", 39.9, 54.0, 5.0, compact=False),
    ]
    serve, reasons = _judged(sources, _settings(tmp_path))
    assert serve == []
    assert "under min_apparent_flux_jy = 1" in reasons["faint"]
    assert "under min_apparent_flux_jy = 1" in reasons["far"]
    assert "extended" in reasons["wide"]
    assert _judged(sources[:1], _settings(tmp_path, min_apparent_flux_jy=0.5))[0] == ["faint"]


def test_ranking_is_by_beam_weighted_flux(tmp_path: Path) -> None:
    # 4 Jy two degrees out come in behind 2 Jy on axis: the beam there is a third.
    sources = [_source("far", 40, 52.5, 4.0), _source("near", 40, 54.6, 2.0)]
    assert list(_judged(sources, _settings(tmp_path))[1]) == ["near", "far"]


def test_blends(tmp_path: Path) -> None:
    main, weak = _source("main", 40, 54.6, 5.0), _source("weak", 42, 54.6, 0.6)
    strong, wide = _source("strong", 42, 54.6, 3.0), _source("wide", 42, 54.6, 3.0, compact=False)
    stronger = _source("stronger", 42, 54.6, 20.0)
    modelled, unmodelled = _settings(tmp_path), _settings(tmp_path, field_iterations=0)
    sky = tmp_path / "sky.csv"
    assert _judged([main, weak], unmodelled)[0] == ["main"]
    serve, reasons = _judged([main, strong], unmodelled)
    assert serve == []
    assert "blend, strong has" in reasons["main"]
    assert "field_iterations is 0" in reasons["main"]
    assert _judged([main, strong], _settings(tmp_path, field_iterations=0, max_blend_fraction=0.5))[0] == ["main"]
    assert _judged([main, strong], _settings(tmp_path, field_iterations=0, sky=sky))[0] == ["main"]
    serve, reasons = _judged([main, strong], modelled)
    assert serve == ["main"]
    assert "blend with strong (" in reasons["main"]
    serve, reasons = _judged([main, wide], modelled)
    assert serve == []
    assert "no point source models it" in reasons["main"]
    serve, reasons = _judged([main, stronger], modelled)
    assert serve == []
    assert "more than the candidate" in reasons["main"]


def test_share_of_a_blend_is_of_the_flux_in_the_beam(tmp_path: Path) -> None:
    [transit] = next_transit(START_JD, np.radians([40.0]), np.radians([54.57]))
    sources = [_source("main", 40, 54.57, 8.5), _source("beside", 40, 54.57 + 0.1, 1.5), _source("out", 40, 60, 99.0)]
    in_beam, _ = judge(Drift.centred(transit, 54.57), sources, _settings(tmp_path))
    shares = {seen.source.name: seen.share for seen in in_beam}
    assert shares == pytest.approx({"main": 0.85, "beside": 0.15}, abs=0.005)


def test_companions_are_handed_on_for_the_model(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("name,ra_deg,dec_deg,flux_jy\nmain,40,54.6,5\nbeside,41,54.6,2\ndim,39,54.6,0.01\n")
    [transit] = next_transit(START_JD, np.radians([40.0]), np.radians([54.6]))
    content = detect(_manifest(tmp_path, Drift.centred(transit, 54.57)), _settings(tmp_path, path))
    assert content["calibrator"]["name"] == "main"
    [companion] = content["companions"]
    assert companion["name"] == "beside"
    assert companion["compact"] is True
    assert FluxModel.from_json(companion["flux_model"]).flux(1.4e9) == pytest.approx(2)


def test_nothing_in_the_catalogue(tmp_path: Path) -> None:
    assert judge(Drift.centred(START_JD, 54.57), [], _settings(tmp_path)) == ([], [])


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    ra=st.floats(0, 360, exclude_max=True) | st.floats(0, 1e-4) | st.floats(359.9999, 360, exclude_max=True),
    declination=st.floats(-30, 89.5) | st.floats(88, 89.9),
    offset=st.floats(-1.5, 1.5),
    midnight=st.booleans(),
    day=st.integers(0, 600),
    place=st.floats(0.02, 0.98),
)
def test_a_source_in_the_beam_is_found_once_at_its_transit(
    *, ra: float, declination: float, offset: float, midnight: bool, day: int, place: float
) -> None:
    """Wherever it is on the sky, whenever, and wherever in the group: RA wrap, pole and midnight included."""
    dec = min(declination + offset, 89.95)
    start_jd = 2460900.5 + day
    if midnight:
        ra = np.degrees(sidereal_time(np.array([start_jd]))[0]) + offset
    settings = _settings(Path("/data"))
    source = _source("source", ra, dec, 100.0)
    [transit] = next_transit(start_jd - 0.01, np.radians([ra]), np.radians([dec]))
    first = transit - place * GROUP_DAYS
    found = []
    for number in (-1, 0, 1):
        drift = Drift(first + number * GROUP_DAYS, 24, dsa110.INTEGRATION_S, declination)
        _, candidates = judge(drift, [source], settings)
        found += [(number, candidate) for candidate in candidates]
    [(number, candidate)] = found
    edge = place * GROUP_DAYS * 86400 + dsa110.INTEGRATION_S / 2
    assert number == (1 if edge >= GROUP_DAYS * 86400 else 0)
    assert abs(candidate.transit_jd - transit) * 86400 < 0.5
    assert candidate.seen.separation_deg == pytest.approx(abs(dec - declination), abs=0.3)
    assert candidate.seen.share == 1
