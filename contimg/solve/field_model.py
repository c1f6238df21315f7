"""Sky model of a calibrator group: the calibrator and the other bright sources of its field."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from contimg.catalogues import sky_catalogue
from contimg.catalogues.calibrator import FluxModel
from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ
from contimg.core.sections import Calibration, SkyCatalogue
from contimg.image.source_subtraction import BrightSource
from contimg.sets.caltable import Caltable
from contimg.telescope import beam
from contimg.visibilities.measurement_set import ObservationGeometry
from contimg.visibilities.model import Sky

_LOG = logging.getLogger(__name__)

_MAX_SOURCES = 300
"""Largest number of sources beside the calibrator in a model; the brightest through the beam are taken."""
_FAINTEST = 0.001
"""Least apparent flux of a source in the model, as a fraction of the calibrator's; fainter ones do not bias gains."""
_FAINTER_A_ROUND = 3.0
"""Factor by which each round's model goes deeper: errors of the gains leave ghosts of the calibrator in the image of
its field, fainter every round, and a ghost in the model stays in the gains."""
_LEAST_RESPONSE = 0.003
"""Least response of the beam at which its pattern is known well enough to correct for."""
_SAMPLES = 9
"""Number of integrations, and of channels, at which the apparent flux, smooth in both, is averaged."""
_SAME_SOURCE_RAD = np.radians(20 / 3600)
"""Distance within which a source is the calibrator itself: about the array's finest resolution."""
_LOST_RAD = np.radians(60 / 3600)
"""Distance from the calibrator's place beyond which a fitted source is not the calibrator."""
_CORE_RADIUS_M = 500.0
"""Radius of the core about the antennas' median position: both arms lie within, the outriggers do not."""
_CORE_ANTENNAS = 48
"""Number of core antennas that measure the field; all would cost 2.3 times the processor time for no better gains."""
_CATALOGUE_RADIUS_RAD = np.radians(6.0)
"""Radius of the catalogue query about the phase centre; only far sidelobes of the beam lie beyond."""


def calibrator_sky(found: Mapping[str, Any], frequencies_hz: np.ndarray) -> Sky:
    """Sky of the calibrator alone, from `calibrator.json`, with its flux at each channel's frequency, shape (F,)."""
    return _sky([found["calibrator"]], frequencies_hz)


def start(
    alone: Sky,
    found: Mapping[str, Any],
    geometry: ObservationGeometry,
    calibration: Calibration,
    catalogued: SkyCatalogue,
) -> tuple[Sky, int]:
    """First sky model, and the number of times that it is made anew from the field's image.

    A sky catalogue gives the complete model; else the model holds the calibrator and the other point sources that the
    calibrator catalogue has in the same beam.

    Parameters
    ----------
    alone
        Sky of the calibrator alone.
    found
        Content of `calibrator.json`.
    geometry
        Geometry of the measurement.
    calibration
        Number of rounds.
    catalogued
        Sky catalogue, if there is one.

    Raises
    ------
    CatalogueError
        If the sky catalogue cannot be read.
    """
    catalogue = sky_catalogue.load(catalogued)
    if catalogue is None:
        companions = [source for source in found.get("companions", ()) if source["compact"]]
        field = _sky(companions, geometry.frequencies_hz)
        return join(alone, field, geometry), calibration.field_iterations
    ra_deg, dec_deg = np.degrees(geometry.phase_centre_rad).tolist()
    listed = catalogue.near(ra_deg, dec_deg, float(np.degrees(_CATALOGUE_RADIUS_RAD)))
    field = power_law(
        np.radians(listed.ra_deg), np.radians(listed.dec_deg), listed.flux_jy, listed.spectral_index, geometry
    )
    return join(alone, field, geometry), 0


def from_bright(listed: Sequence[BrightSource], alone: Sky, geometry: ObservationGeometry, rounds_left: int) -> Sky:
    """Sky model of the calibrator and the sources fitted in its field, scaled to the calibrator's known flux.

    An error of the gains' scale is common to the calibrator and the other sources, and cancels.

    Parameters
    ----------
    listed
        The fitted sources.
    alone
        Sky of the calibrator alone.
    geometry
        Geometry of the measurement.
    rounds_left
        Number of later rounds that make the model anew.
    """
    ra, dec, apparent, index = (
        np.array([(source.ra_rad, source.dec_rad, source.apparent_jy, source.spectral_index) for source in listed])
        .reshape(-1, 4)
        .T
    )
    distance = beam.separation(alone.ra_rad[0], alone.dec_rad[0], ra, dec)
    if not len(distance) or distance.min() > _LOST_RAD:
        _LOG.warning("the calibrator is not in the image of its field; the field's sources are left out")
        return alone
    others = np.arange(len(distance)) != distance.argmin()
    scale = apparent_jy(alone, geometry)[0] / apparent[~others][0]
    ra, dec, apparent, index = ra[others], dec[others], apparent[others], index[others]
    unit = power_law(ra, dec, np.ones(len(ra)), index, geometry)
    response = apparent_jy(unit, geometry)
    seen = response > _LEAST_RESPONSE
    flux = apparent[seen] * scale / response[seen]
    field = Sky(unit.ra_rad[seen], unit.dec_rad[seen], unit.flux_jy[seen] * flux[:, None])
    return join(alone, field, geometry, _FAINTEST * _FAINTER_A_ROUND**rounds_left)


def _sky(entries: Sequence[Mapping[str, Any]], frequencies_hz: np.ndarray) -> Sky:
    flux = [FluxModel.from_json(entry["flux_model"]).flux(frequencies_hz) for entry in entries]
    return Sky(
        np.radians([entry["ra_deg"] for entry in entries]),
        np.radians([entry["dec_deg"] for entry in entries]),
        np.array(flux).reshape(len(entries), len(frequencies_hz)),
    )


def core_antennas(geometry: ObservationGeometry, delay: Caltable) -> np.ndarray:
    """Antennas on which the field's sources are measured, bool, shape (A,): a part of the core.

    Other sources bias gains through the short baselines: on long ones their fringes average out over the band and a
    solution's time. A part of the core therefore measures the field: processor time goes as the number of antennas
    squared, and noise is no concern.
    """
    solved = np.flatnonzero(delay.good.any(axis=(0, 2, 3)))
    middle = np.median(geometry.positions_m[solved], axis=0)
    within = solved[np.linalg.norm(geometry.positions_m[solved] - middle, axis=1) < _CORE_RADIUS_M]
    chosen = np.zeros(geometry.antennas, bool)
    chosen[within[np.linspace(0, len(within) - 1, min(_CORE_ANTENNAS, len(within))).round().astype(int)]] = True
    return chosen


def power_law(
    ra_rad: np.ndarray,
    dec_rad: np.ndarray,
    flux_jy: np.ndarray,
    index: np.ndarray | float,
    geometry: ObservationGeometry,
) -> Sky:
    """Sky of sources with a flux (Jy) at 1.4 GHz and S ∝ ν^index; arrays of shape (S,)."""
    ratio = geometry.frequencies_hz / REFERENCE_FREQUENCY_HZ
    return Sky(ra_rad, dec_rad, flux_jy[:, None] * ratio ** np.broadcast_to(index, flux_jy.shape)[:, None])


def join(calibrator: Sky, field: Sky, geometry: ObservationGeometry, faintest: float = _FAINTEST) -> Sky:
    """Sky of the calibrator, first, and the field's sources that can bias its gains, brightest first.

    Sources at the calibrator's place, which the catalogue and the image hold as well, are left out, and sources too
    faint through the beam.
    """
    apparent = apparent_jy(field, geometry)
    least_jy = faintest * apparent_jy(calibrator, geometry)[0]
    distance = beam.separation(calibrator.ra_rad[0], calibrator.dec_rad[0], field.ra_rad, field.dec_rad)
    matters = np.flatnonzero((apparent > least_jy) & (distance > _SAME_SOURCE_RAD))
    brightest = matters[np.argsort(-apparent[matters])][:_MAX_SOURCES]
    return calibrator.with_sources(Sky(field.ra_rad[brightest], field.dec_rad[brightest], field.flux_jy[brightest]))


def apparent_jy(sky: Sky, geometry: ObservationGeometry) -> np.ndarray:
    """Flux through the beam (Jy), mean over the band and the integrations, shape (S,)."""
    some = np.linspace(0, len(geometry.frequencies_hz) - 1, _SAMPLES).round().astype(int)
    times = np.linspace(0, len(geometry.pointings_rad) - 1, _SAMPLES).round().astype(int)
    thinned = Sky(sky.ra_rad, sky.dec_rad, sky.flux_jy[:, some])
    seen = [
        thinned.apparent_jy(geometry.primary_beam, (ra, dec), geometry.frequencies_hz[some])
        for ra, dec in geometry.pointings_rad[times]
    ]
    return np.mean(seen, axis=(0, 2))
