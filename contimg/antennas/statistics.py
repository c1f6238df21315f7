"""Statistics of a group's antennas, from conversion and self-calibration, and the state of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from contimg.core import files
from contimg.sets.field import FieldGains
from contimg.sets.group_antennas import OF_FIELD, State
from contimg.telescope import stations
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import SupportsEvaluate

_CHANNELS = 16
"""Number of channels at which the set's gains are evaluated."""
_LEAST_COHERENCE = 0.3
"""Least coherence as a fraction of the median antenna's, below which an antenna sees little of the sky."""
_TELLING_COHERENCE = 0.05
"""Least median coherence at which a low coherence is a fault."""
_NOISY = 2.0
"""SEFD, as a multiple of the median antenna's, above which an antenna is noisy."""
_GAIN_RANGE = 3.0
"""Factor by which an amplitude may differ from the median antenna's."""
_MUCH_FLAGGED = 0.5
_UNSTEADY_DEG, _UNSTEADY_OF_MEDIAN = 10.0, 4.0
"""Phase scatter about its course in a group (deg, and multiple of the median antenna's) above which it is a fault."""
_DELAYED_S = 1e-9
"""Change of delay since the set (s) above which it is a fault; up to a third of a turn over the band is weather."""


def describe(
    selection: Mapping[str, Any],
    conversion: Mapping[str, Any],
    gains: SupportsEvaluate,
    field: FieldGains | None,
    averaged: Averaged,
    *,
    field_passed: bool = True,
) -> dict[str, Any]:
    """Content of `<group>.antennas.json`.

    Parameters
    ----------
    selection
        Selection of sets for the group.
    conversion
        Sidecar of its Measurement Set.
    gains
        Gains of the set.
    field
        Gains of the field relative to the set; None where the field was not solved.
    averaged
        Averaged visibilities of the group.
    field_passed
        Whether the field's gains passed their gates; others are kept on record, but judge no antenna.

    Returns
    -------
    dict
        `group`, `sets`, `phase_centre_deg`, `names`; then by antenna, as lists of [X, Y], None where unknown:
        `flagged` (fraction), `sefd_jy`, `coherence`, `gain` (amplitude), and with a solved field, against the set:
        `phase_deg` in the middle of the group, `phase_error_deg`, `phase_rate_deg_per_hour`, `unsteady_deg` (about
        that course), `amplitude`, `amplitude_error`, `delay_ns`, `delay_error_ns`, and, each a list,
        `interval_phase_deg` at `interval_mjd_s`, `bandpass_amplitude` and `bandpass_phase_deg` at `bandpass_hz`; by
        antenna `silent_s`, `offset_mm` and `offset_error_mm` (east, north as seen from the phase centre), `state` and
        `reasons`; `field_passed`. With `delay_reference_hz`, where a delay has no phase, these are the whole gains of
        the field.
    """
    receivers = conversion.get("receivers") or _unknown(averaged)
    index = np.array([stations.NAMES.index(name) for name in receivers["names"]])
    middle = float(averaged.times_mjd_s.mean())
    some = np.linspace(0, len(averaged.frequencies_hz) - 1, _CHANNELS).round().astype(int)
    values, good = gains.evaluate(np.array([middle]), averaged.frequencies_hz[some])
    known = good[0, index].any(axis=1)
    gain = np.ma.median(np.ma.array(np.abs(values[0, index]), mask=~good[0, index]), axis=1).filled(np.nan)
    content: dict[str, Any] = {
        "group": selection["group"],
        "sets": list(selection["sets"]),
        "phase_centre_deg": np.degrees(averaged.phase_centre_rad).tolist(),
        **{key: receivers[key] for key in ("names", "flagged", "coherence", "silent_s")},
    }
    if field is not None:
        content |= {"field_passed": field_passed, **_of_field(field, index)}
    if field is not None and field_passed:
        gain = gain * np.where(np.isfinite(_at(field.amplitude, index)), _at(field.amplitude, index), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sefd = np.array(receivers["noise"], float) / gain**2
    content |= {"gain": files.rounded_list(np.where(known, gain, np.nan)), "sefd_jy": files.rounded_list(sefd)}
    found = judge({key: value for key, value in content.items() if field_passed or key not in OF_FIELD})
    return content | {"state": [state for state, _ in found], "reasons": [reasons for _, reasons in found]}


def _unknown(averaged: Averaged) -> dict[str, Any]:
    """Unknown receivers, for a Measurement Set of an earlier version."""
    names = [stations.NAMES[antenna] for antenna in averaged.antennas]
    both = [[None, None]] * len(names)
    return {"names": names, "silent_s": [0.0] * len(names), "flagged": both, "coherence": both, "noise": both}


def _at(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Rows of antennas, nan beyond the last one."""
    padded = np.full((max(len(values), index.max(initial=-1) + 1), *values.shape[1:]), np.nan)
    padded[: len(values)] = values
    return padded[index]


def _of_field(field: FieldGains, index: np.ndarray) -> dict[str, Any]:
    phase, rate = field.course_rad
    solved: np.ndarray = field.solved

    def listed(values: np.ndarray, known: np.ndarray = solved) -> Any:
        return files.rounded_list(_at(np.where(known, values, np.nan), index))

    def courses(values: np.ndarray) -> Any:
        return files.rounded_list(_at(np.moveaxis(np.where(solved, values, np.nan), 0, -1), index))

    both = np.broadcast_to(solved[:, :1] & solved[:, 1:], solved.shape)
    return {
        "phase_deg": listed(np.degrees(np.angle(np.exp(1j * phase)))),
        "phase_error_deg": listed(np.degrees(field.phase_error_rad)),
        "phase_rate_deg_per_hour": listed(np.degrees(rate) * 3600),
        "unsteady_deg": listed(np.degrees(field.unsteady_rad)),
        "amplitude": listed(field.amplitude),
        "amplitude_error": listed(field.amplitude_error),
        "delay_ns": listed(field.delay_s * 1e9),
        "delay_error_ns": listed(field.delay_error_s * 1e9),
        "delay_reference_hz": field.middle_hz,
        "interval_mjd_s": field.times_mjd_s.tolist(),
        "interval_phase_deg": courses(np.degrees(field.phase_rad)),
        "bandpass_hz": field.parts_hz.tolist(),
        "bandpass_amplitude": courses(np.exp(field.shape.real)),
        "bandpass_phase_deg": courses(np.degrees(field.shape.imag)),
        "offset_mm": listed(field.offset_m * 1e3, both),
        "offset_error_mm": listed(field.offset_error_m * 1e3, both),
    }


def judge(content: Mapping[str, Any]) -> list[tuple[State, list[str]]]:
    """State of each antenna with the reasons, from its measurements compared with the other antennas'."""
    number = len(content["names"])

    def of(key: str) -> np.ndarray:
        if key not in content:
            return np.full((number, 2), np.nan)
        return np.array(content[key], float).reshape(number, 2)

    flagged, coherence, sefd, gain = (of(key) for key in ("flagged", "coherence", "sefd_jy", "gain"))
    unsteady, delay = of("unsteady_deg"), of("delay_ns") * 1e-9
    silent_s = np.array(content["silent_s"], float)
    alive = ~(flagged >= 1)
    middle = {
        name: np.nanmedian(values[alive & np.isfinite(values)]) if (alive & np.isfinite(values)).any() else np.nan
        for name, values in (("coherence", coherence), ("sefd", sefd), ("gain", gain), ("unsteady", unsteady))
    }
    too_unsteady = max(_UNSTEADY_DEG, _UNSTEADY_OF_MEDIAN * np.nan_to_num(middle["unsteady"]))
    blind = (coherence < _LEAST_COHERENCE * middle["coherence"]) & (middle["coherence"] > _TELLING_COHERENCE)
    faults = (
        ((flagged > _MUCH_FLAGGED) & alive, flagged, "{:.0%} flagged"),
        (blind & alive, coherence / middle["coherence"], "sees {:.0%} of what the others see"),
        (sefd > _NOISY * middle["sefd"], sefd / middle["sefd"], "SEFD is {:.1f} times the others'"),
        (
            (gain > _GAIN_RANGE * middle["gain"]) | (gain < middle["gain"] / _GAIN_RANGE),
            gain / middle["gain"],
            "amplitude is {:.2f} times the others'",
        ),
        (unsteady > too_unsteady, unsteady, "phase scatters by {:.0f}° in the group"),
        (np.abs(delay) > _DELAYED_S, delay * 1e9, "delay is {:+.1f} ns off its set"),
    )
    found = []
    for a in range(number):
        told = [
            f"{receptor}: {text.format(values[a, p])}"
            for which, values, text in faults
            for p, receptor in enumerate("XY")
            if which[a, p] and alive[a, p]
        ]
        told += [f"{receptor}: no data" for p, receptor in enumerate("XY") if not alive[a, p]]
        if silent_s[a] > 0 and alive[a].any():
            told.append(f"silent for {silent_s[a]:.0f} s")
        state = State.DEAD if not alive[a].any() else State.FAILING if told else State.GOOD
        found.append((state, told))
    return found
