"""Subtables of a Measurement Set: their columns, made from its observation."""

from __future__ import annotations

from typing import Any

import numpy as np

import contimg
from contimg.convert.geometry import Observation
from contimg.telescope import dsa110

_TOPOCENTRIC = 5
"""Casacore's number of the frequency frame TOPO."""
_STOKES = {-5: 9, -6: 12, -7: 10, -8: 11}
"""Casacore's numbers of XX, YY, XY, YX, by AIPS number."""
_RECEPTORS = {9: (0, 0), 12: (1, 1), 10: (0, 1), 11: (1, 0)}
_FOR_EVER_S = 1e30


def columns(observation: Observation) -> dict[str, dict[str, Any]]:
    """Columns of every subtable with rows; other columns keep casacore's defaults."""
    return {
        "ANTENNA": _antenna(observation),
        "DATA_DESCRIPTION": {"POLARIZATION_ID": [0], "SPECTRAL_WINDOW_ID": [0], "FLAG_ROW": [False]},
        "FEED": _feed(observation),
        "FIELD": _field(observation),
        "HISTORY": _history(observation),
        "OBSERVATION": _observation(observation),
        "POINTING": _pointing(observation),
        "POLARIZATION": _polarization(observation),
        "PROCESSOR": {
            "TYPE": ["CORRELATOR"],
            "SUB_TYPE": [""],
            "TYPE_ID": [-1],
            "MODE_ID": [-1],
            "FLAG_ROW": [False],
        },
        "SOURCE": _source(observation),
        "SPECTRAL_WINDOW": _spectral_window(observation),
        "STATE": {
            "SIG": [True],
            "REF": [False],
            "CAL": [0.0],
            "LOAD": [0.0],
            "SUB_SCAN": [0],
            "OBS_MODE": ["OBSERVE_TARGET#ON_SOURCE"],
            "FLAG_ROW": [False],
        },
    }


def _middle_s(observation: Observation) -> float:
    return float(np.mean(observation.times_mjd_s))


def _range_s(observation: Observation) -> np.ndarray:
    half = observation.integration_s / 2
    return np.array([observation.times_mjd_s[0] - half, observation.times_mjd_s[-1] + half])


def _antenna(observation: Observation) -> dict[str, Any]:
    antennas = observation.antennas
    rows = int(antennas.numbers.max()) + 1
    positions = np.tile(observation.centre_m, (rows, 1))
    positions[antennas.numbers] += antennas.positions_m
    diameters = np.full(rows, dsa110.DISH_DIAMETER_M)
    diameters[antennas.numbers] = antennas.diameters_m
    names = [""] * rows
    for number, name in zip(antennas.numbers, antennas.names, strict=True):
        names[number] = name
    return {
        "NAME": names,
        "STATION": [f"DSA-{int(name):03d}" if name.isdigit() else name for name in names],
        "TYPE": ["GROUND-BASED"] * rows,
        "MOUNT": ["alt-az"] * rows,
        "POSITION": positions,
        "OFFSET": np.zeros((rows, 3)),
        "DISH_DIAMETER": diameters,
        "FLAG_ROW": np.zeros(rows, bool),
    }


def _feed(observation: Observation) -> dict[str, Any]:
    rows = int(observation.antennas.numbers.max()) + 1
    return {
        "ANTENNA_ID": np.arange(rows, dtype=np.int32),
        "FEED_ID": np.zeros(rows, np.int32),
        "SPECTRAL_WINDOW_ID": np.full(rows, -1, np.int32),
        "BEAM_ID": np.full(rows, -1, np.int32),
        "TIME": np.full(rows, _middle_s(observation)),
        "INTERVAL": np.full(rows, _FOR_EVER_S),
        "NUM_RECEPTORS": np.full(rows, 2, np.int32),
        "BEAM_OFFSET": np.zeros((rows, 2, 2)),
        "POLARIZATION_TYPE": np.tile(np.array(["X", "Y"]), (rows, 1)),
        "POL_RESPONSE": np.tile(np.eye(2, dtype=np.complex64), (rows, 1, 1)),
        "POSITION": np.zeros((rows, 3)),
        "RECEPTOR_ANGLE": np.zeros((rows, 2)),
    }


def _field(observation: Observation) -> dict[str, Any]:
    direction = np.array(observation.phase_centre_rad).reshape(1, 1, 2)
    return {
        "NAME": [observation.name],
        "CODE": [""],
        "TIME": [_middle_s(observation)],
        "NUM_POLY": [0],
        "DELAY_DIR": direction,
        "PHASE_DIR": direction,
        "REFERENCE_DIR": direction,
        "SOURCE_ID": [0],
        "FLAG_ROW": [False],
    }


def _source(observation: Observation) -> dict[str, Any]:
    return {
        "SOURCE_ID": [0],
        "TIME": [_middle_s(observation)],
        "INTERVAL": [_FOR_EVER_S],
        "SPECTRAL_WINDOW_ID": [-1],
        "NUM_LINES": [0],
        "NAME": [observation.name],
        "CALIBRATION_GROUP": [0],
        "CODE": [""],
        "DIRECTION": np.array(observation.phase_centre_rad).reshape(1, 2),
        "PROPER_MOTION": np.zeros((1, 2)),
    }


def _history(observation: Observation) -> dict[str, Any]:
    return {
        "TIME": [_middle_s(observation)],
        "OBSERVATION_ID": [0],
        "MESSAGE": [f"group {observation.name} converted, phased from the meridian to ICRS"],
        "PRIORITY": ["NORMAL"],
        "ORIGIN": ["contimg"],
        "OBJECT_ID": [0],
        "APPLICATION": [f"contimg {contimg.__version__}"],
    }


def _observation(observation: Observation) -> dict[str, Any]:
    return {
        "TELESCOPE_NAME": [dsa110.NAME],
        "TIME_RANGE": _range_s(observation).reshape(1, 2),
        "OBSERVER": [dsa110.INSTRUMENT],
        "PROJECT": ["DSA-110 continuum"],
        "RELEASE_DATE": [0.0],
        "SCHEDULE_TYPE": [""],
        "FLAG_ROW": [False],
    }


def _pointing(observation: Observation) -> dict[str, Any]:
    with_data = np.union1d(observation.first, observation.second).astype(np.int32)
    integrations, count = len(observation.times_mjd_s), len(with_data)
    rows = integrations * count
    direction = np.stack(observation.pointing_rad, axis=-1)
    times = np.repeat(observation.times_mjd_s, count)
    return {
        "ANTENNA_ID": np.tile(with_data, integrations),
        "TIME": times,
        "INTERVAL": np.full(rows, observation.integration_s),
        "NAME": ["meridian"] * rows,
        "NUM_POLY": np.zeros(rows, np.int32),
        "TIME_ORIGIN": times,
        "DIRECTION": np.repeat(direction, count, axis=0).reshape(rows, 1, 2),
        "TARGET": np.repeat(direction, count, axis=0).reshape(rows, 1, 2),
        "TRACKING": np.zeros(rows, bool),
    }


def _polarization(observation: Observation) -> dict[str, Any]:
    correlations = [_STOKES[product] for product in observation.polarizations]
    return {
        "NUM_CORR": [len(correlations)],
        "CORR_TYPE": np.array([correlations], np.int32),
        "CORR_PRODUCT": np.array([[_RECEPTORS[correlation] for correlation in correlations]], np.int32),
        "FLAG_ROW": [False],
    }


def _spectral_window(observation: Observation) -> dict[str, Any]:
    frequencies = observation.frequencies_hz
    widths = np.full((1, len(frequencies)), observation.channel_width_hz)
    return {
        "NUM_CHAN": [len(frequencies)],
        "NAME": ["band"],
        "REF_FREQUENCY": [float(frequencies[0])],
        "CHAN_FREQ": frequencies[np.newaxis],
        "CHAN_WIDTH": widths,
        "EFFECTIVE_BW": widths,
        "RESOLUTION": widths,
        "MEAS_FREQ_REF": [_TOPOCENTRIC],
        "TOTAL_BANDWIDTH": [float(widths.sum())],
        "NET_SIDEBAND": [1],
        "IF_CONV_CHAIN": [0],
        "FREQ_GROUP": [0],
        "FREQ_GROUP_NAME": [""],
        "FLAG_ROW": [False],
    }
