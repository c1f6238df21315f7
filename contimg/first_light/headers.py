"""Findings from the headers alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from contimg.core.errors import InputError
from contimg.core.paths import jd_to_datetime
from contimg.core.units import MJD_ZERO_JD
from contimg.first_light.findings import Assessment, Assumption, Finding, judged
from contimg.first_light.raw_group import RawGroup, SubbandFile
from contimg.telescope import dsa110, raw_header, stations
from contimg.telescope.meridian import meridian_uvw
from contimg.telescope.raw_visibilities import RawVisibilities

_NAME_LATENCY_S = (-5.0, 120.0)
"""Accepted latency (s) of a file's opening after the start of its data: 14 s usually, 82 s more at worst."""
_CLOCKLESS_DAYS = 3.0
_CADENCES_S = (309.24, 412.0, 605.0)
"""Known cadences of the telescope (s), from group to group."""
_PLACE_M, _STATION_M, _UVW_M, _DISH_M = 30.0, 0.1, 0.05, 0.1
"""Largest deviations of the array's centre, a station, a baseline's coordinates and a dish's diameter (m)."""
_METRES_PER_DEG = 111_000.0
_SUBBAND_HZ = 384 * dsa110.RAW_CHANNEL_WIDTH_HZ


def findings(group: RawGroup) -> list[Finding]:
    """Findings from files, names and headers."""
    lines: tuple[Callable[[RawGroup], Finding], ...] = (
        _files,
        _layout,
        _names,
        _start,
        _clock,
        _telescope,
        _bands,
        _channels,
        _integration,
        _cadence,
        _polarizations,
        _stations,
        _baselines,
        _declination,
        _phase_centre,
        _uvw,
    )
    return [line(group) for line in lines]


def _named(subbands: list[int]) -> str:
    return ", ".join(f"sb{subband:02d}" for subband in subbands)


def _where(group: RawGroup, wrong: Callable[[int, SubbandFile], bool]) -> list[int]:
    """Subbands for which a condition holds."""
    return [subband for subband, file in group if wrong(subband, file)]


def _files(group: RawGroup) -> Finding:
    missing = sorted(set(range(dsa110.SUBBANDS)) - set(group.files))
    found = f"{len(group.files)} subbands" + (f", without {_named(missing)}" if missing else "")
    found += "".join(f"; {reason}" for reason in group.unreadable.values())
    found += f"; of a subband that is there already: {', '.join(group.duplicates)}" if group.duplicates else ""
    if others := group.passed_over:
        found += f"; {len(others)} passed over, as {others[0]}"
    return judged(
        Assumption.FILES,
        not (missing or group.unreadable or group.duplicates),
        f"{dsa110.SUBBANDS} subbands, whole, each once",
        found,
        "ingest.min_subbands says with how few a group is taken, and of several files of a subband one is; look at"
        " the transfer of the others",
    )


def _layout(group: RawGroup) -> Finding:
    refused = []
    for _, file in group:
        try:
            RawVisibilities(raw_header.read_header(file.path)).close()
        except (InputError, OSError) as error:
            refused.append(str(error))
    return judged(
        Assumption.LAYOUT,
        not refused,
        "header and visibilities as conversion reads them: complex64, uncompressed",
        f"{len(refused)} refused: {refused[0]}" if refused else "so",
        "nothing: conversion leaves such files out; the writer must be as it was, or"
        " contimg/telescope/raw_visibilities.py learn the other form",
    )


def _names(group: RawGroup) -> Finding:
    late = {}
    for subband, file in group:
        begin = jd_to_datetime(float(file.times_jd[0])).timestamp() - file.number("integration_time") / 2
        late[subband] = file.name.opened.timestamp() - begin
    low, high = _NAME_LATENCY_S
    off = [subband for subband, seconds in late.items() if not low <= seconds <= high]
    found = f"{min(late.values()):.0f} to {max(late.values()):.0f} s after it"
    return judged(
        Assumption.NAMES,
        not off,
        f"wall clock of the opening, {low:.0f} to {high:.0f} s after the data's start",
        found + (f"; off: {_named(off)}" if off else ""),
        "groups go by the headers' times: look at the clock of these hosts (NTP), or at a stale time in the header",
    )


def _start(group: RawGroup) -> Finding:
    start = group.first.times_jd[0]
    off = _where(group, lambda _, file: file.times_jd[0] != start)
    apart = max(abs(float(file.times_jd[0] - start)) * 86400 for _, file in group)
    return judged(
        Assumption.START,
        not off,
        "the first time of all subbands the same, bit by bit",
        f"{_named(off)} up to {apart:.3g} s off" if off else "the same",
        "nothing: these files make no group; the correlator's header anchor must be mended",
    )


def _clock(group: RawGroup) -> Finding:
    mjd = float(group.first.times_jd[0]) - MJD_ZERO_JD
    good = np.isfinite(mjd) and 58000 < mjd < 80000 and abs(mjd - dsa110.FALLBACK_MJD) > _CLOCKLESS_DAYS
    return judged(
        Assumption.CLOCK,
        bool(good),
        "a time after 2017",
        f"MJD {mjd:.4f}" + ("" if good else " (MJD 55000: the correlator had no clock)"),
        "nothing: such files are left out; the correlator must read its clock again",
    )


def _telescope(group: RawGroup) -> Finding:
    file = group.first
    name, instrument = file.text("telescope_name"), file.text("instrument")
    place = (file.number("latitude"), file.number("longitude"), file.number("altitude"))
    cosine = np.cos(np.radians(dsa110.LATITUDE_DEG))
    off_m = np.hypot(
        (place[0] - dsa110.LATITUDE_DEG) * _METRES_PER_DEG,
        (place[1] - dsa110.LONGITUDE_DEG) * _METRES_PER_DEG * cosine,
    )
    dish_m = file.number("antenna_diameters", dsa110.DISH_DIAMETER_M)
    good = (
        (name, instrument) in ((dsa110.NAME, dsa110.INSTRUMENT), (dsa110.NAME, ""))
        and off_m < _PLACE_M
        and abs(place[2] - dsa110.ELEVATION_M) < _PLACE_M
        and abs(dish_m - dsa110.DISH_DIAMETER_M) < _DISH_M
    )
    return judged(
        Assumption.TELESCOPE,
        bool(good),
        f"{dsa110.NAME} ({dsa110.INSTRUMENT}) at {dsa110.LATITUDE_DEG}, {dsa110.LONGITUDE_DEG} deg,"
        f" {dsa110.ELEVATION_M:.0f} m, dishes of {dsa110.DISH_DIAMETER_M:g} m",
        f"{name} ({instrument}) at {place[0]:.5f}, {place[1]:.5f} deg, {place[2]:.0f} m, dishes of {dish_m:g} m",
        "contimg/telescope/dsa110.py has name and place; the header's place is used for the geometry, and `beam`,"
        " not the dish, for fluxes",
    )


def _bands(group: RawGroup) -> Finding:
    def off(subband: int, file: SubbandFile) -> bool:
        known = dsa110.subband_frequencies(subband, 1)[0]
        return abs(float(file.frequencies_hz.mean()) - known) > 0.01 * _SUBBAND_HZ

    wrong = _where(group, off)
    if wrong:
        found = "; ".join(
            f"sb{subband:02d} at {group.files[subband].frequencies_hz.mean() / 1e6:.2f} MHz" for subband in wrong
        )
    else:
        found = "so"
    return judged(
        Assumption.BANDS,
        not wrong,
        "sb00 the highest (1492.9 MHz amid), each next one 11.72 MHz lower",
        found,
        "the number in the name is not the header's band: rename, or contimg/telescope/dsa110.py",
    )


def _channels(group: RawGroup) -> Finding:
    def off(_: int, file: SubbandFile) -> bool:
        steps, width = np.diff(file.frequencies_hz), file.number("channel_width")
        expected = _SUBBAND_HZ / len(file.frequencies_hz)
        return abs(width / expected - 1) > 0.01 or not np.allclose(steps, -expected, rtol=0.01)

    wrong = _where(group, off)
    file = group.files[wrong[0]] if wrong else group.first
    frequencies = file.frequencies_hz
    order = "descending" if frequencies[0] >= frequencies[-1] else "ascending"
    found = f"{len(frequencies)} of {file.number('channel_width') / 1e3:.3f} kHz, {order}"
    expected = f"descending, {_SUBBAND_HZ / len(frequencies) / 1e3:.3f} kHz apart and wide"
    return judged(
        Assumption.CHANNELS,
        not wrong,
        expected,
        found + (f" ({_named(wrong)})" if wrong else ""),
        "contimg/telescope/dsa110.py, subband_frequencies; such files are left out as misshapen",
    )


def _integration(group: RawGroup) -> Finding:
    expected = f"{dsa110.INTEGRATIONS} of {dsa110.INTEGRATION_S} s, evenly"
    worst, found = Assessment.GOOD, ""
    for subband, file in group:
        times = file.times_jd
        steps = np.diff(times) * 86400
        step, stored = (float(np.median(steps)) if len(steps) else 0.0), file.number("integration_time")
        said = f"{len(times)} of {stored:.6g} s, {step:.6g} s apart"
        found = found or said
        even = len(steps) > 0 and bool(np.all(np.abs(steps / dsa110.INTEGRATION_S - 1) < 0.01))
        number = len(times) == dsa110.INTEGRATIONS
        if even and number and 0 < stored < step / 2 and worst is Assessment.GOOD:
            worst, found = Assessment.OLDER, f"{said}: an older writer, which stored the length of one raw sample"
        elif not (even and number and 0.99 < stored / step < 1.01) and not (even and number and stored < step / 2):
            worst, found = Assessment.WRONG, f"sb{subband:02d}: {said}"
    advice = {
        Assessment.WRONG: "contimg/telescope/dsa110.py; a file closed early is read up to where its subbands agree",
        Assessment.OLDER: "nothing: the step between the times is taken",
    }
    return Finding(Assumption.INTEGRATION, worst, expected, found, advice.get(worst, ""))


def _cadence(group: RawGroup) -> Finding:
    expected = "309.24 s from group to group, at times 412 or 605 s, or a gap; never less"
    steps = np.diff(group.starts_jd) * 86400
    if not len(steps):
        return Finding(
            Assumption.CADENCE,
            Assessment.UNKNOWN,
            expected,
            "one group in this folder",
            "give a folder with more groups",
        )
    usual = np.array([np.abs(np.array(_CADENCES_S) - step).min() < 5 for step in steps])
    good = bool((steps > _CADENCES_S[0] - 1).all())
    return judged(
        Assumption.CADENCE,
        good,
        expected,
        f"{len(steps)} steps of {steps.min():.1f} to {steps.max():.1f} s, {int(usual.sum())} of them usual",
        "groups that overlap: a stale time in the header, or another length of a file",
    )


def _polarizations(group: RawGroup) -> Finding:
    off = _where(
        group,
        lambda _, file: (
            tuple(np.ravel(file.head["polarization_array"])) not in (dsa110.POLARIZATIONS, (-5, -7, -8, -6))
        ),
    )
    stored = np.ravel(
        group.files[off[0]].head["polarization_array"] if off else group.first.head["polarization_array"]
    )
    return judged(
        Assumption.POLARIZATIONS,
        not off,
        "-5, -6 (XX, YY), or -5, -7, -8, -6",
        ", ".join(str(int(number)) for number in stored) + (f" ({_named(off)})" if off else ""),
        "contimg/telescope/raw_header.py; such files are left out as misshapen",
    )


def _stations(group: RawGroup) -> Finding:
    file = group.first
    names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in file.head["antenna_names"])
    numbers, positions = file.head["antenna_numbers"], np.asarray(file.head["antenna_positions"], float)
    advice = "contimg/telescope/stations.py; the header's positions are used: ask which of the two is surveyed"
    expected = f"{stations.COUNT} stations of the list, named 1 to {stations.COUNT}, numbered from 0"
    if names != stations.NAMES or list(numbers) != list(range(stations.COUNT)) or len(positions) != stations.COUNT:
        found = f"{len(names)} named {names[0]} to {names[-1]}, numbered {numbers[0]} to {numbers[-1]}"
        return judged(Assumption.STATIONS, False, expected, found, advice)
    off_m = np.linalg.norm(positions - stations.positions(), axis=1)
    off = np.flatnonzero(~(off_m < _STATION_M))
    listed = ", ".join(f"{names[antenna]} by {off_m[antenna]:.2f} m" for antenna in off[:8])
    found = f"{len(off)} off: {listed}" if len(off) else f"largest difference {off_m.max():.3f} m"
    return judged(Assumption.STATIONS, not len(off), f"{expected}, within {_STATION_M:g} m", found, advice)


def _baselines(group: RawGroup) -> Finding:
    known = [group.first.head[name][: group.first.baselines] for name in ("ant_1_array", "ant_2_array")]

    def off(_: int, file: SubbandFile) -> bool:
        pairs = (file.head[name].reshape(file.integrations, -1) for name in ("ant_1_array", "ant_2_array"))
        return any(
            pair.shape[1:] != first.shape or (pair != first).any() for pair, first in zip(pairs, known, strict=True)
        )

    wrong = _where(group, off)
    antennas = np.unique(known)
    complete = len(known[0]) == len(antennas) * (len(antennas) + 1) // 2
    without = sorted(set(antennas) & (set(range(stations.COUNT)) - set(stations.WITH_DATA)))
    found = f"{len(known[0])} of {len(antennas)} antennas" + (f"; {_named(wrong)} in another order" if wrong else "")
    found += f"; numbers {without} should have none" if without else ""
    return judged(
        Assumption.BASELINES,
        not wrong and complete and not without,
        "all pairs of the antennas with data and their autocorrelations, in one order (96 antennas: 4656)",
        found,
        "contimg/telescope/stations.py has the stations without data; files of another order are left out",
    )


def _declination(group: RawGroup) -> Finding:
    expected = "phase_center_app_dec and extra keyword phase_center_dec, the same in all subbands (rad)"
    apparent, extra = (
        np.array([file.number(name) for _, file in group])
        for name in ("phase_center_app_dec", "extra_keywords/phase_center_dec")
    )
    if np.isnan(apparent).all() and np.isfinite(extra).all() and np.ptp(extra) < 1e-6:
        found = f"{np.degrees(extra[0]):.4f} deg among the extra keywords only: an older writer"
        return Finding(
            Assumption.DECLINATION, Assessment.OLDER, expected, found, "nothing: the extra keyword is taken"
        )
    both = np.concatenate([apparent, extra[np.isfinite(extra)]])
    good = bool(np.isfinite(apparent).all() and np.ptp(both) < 1e-5 and (np.abs(both) <= np.pi / 2).all())
    return judged(
        Assumption.DECLINATION,
        good,
        expected,
        f"{np.degrees(np.nanmin(both)):.4f} to {np.degrees(np.nanmax(both)):.4f} deg",
        "phase_center_app_dec is used: the writer must say which pointing the phases have",
    )


def _phase_centre(group: RawGroup) -> Finding:
    file = group.first
    kind, epoch = file.text("phase_type"), file.text("extra_keywords/phase_center_epoch")
    hour_angle = file.number("extra_keywords/ha_phase_center", 0.0)
    return judged(
        Assumption.PHASE_CENTRE,
        kind in ("drift", "") and hour_angle == 0 and epoch in ("HADEC", "") and not file.catalogued,
        "phase_type drift, hour angle 0, epoch HADEC, no phase_center_catalog",
        f"phase_type {kind or 'absent'}, hour angle {hour_angle:g}, epoch {epoch or 'absent'}"
        + (", with a phase_center_catalog" if file.catalogued else ""),
        "nothing can be set: only data stopped on the meridian are converted",
    )


def _uvw(group: RawGroup) -> Finding:
    expected = f"position 2 minus position 1 towards the meridian, within {_UVW_M:g} m, the same at every time"
    advice = "the sign, the pointing or the positions are others than thought: ask before anything is imaged"
    for subband, file in group:
        antenna_uvw = meridian_uvw(np.asarray(file.head["antenna_positions"], float), file.declination_rad)
        first, second = (file.head[name][: file.baselines] for name in ("ant_1_array", "ant_2_array"))
        known = antenna_uvw[second] - antenna_uvw[first]
        stored = np.asarray(file.head["uvw_array"], float).reshape(-1, file.baselines, 3)
        off = float(np.abs(stored[0] - known).max())
        if off > _UVW_M or not np.isfinite(off):
            opposite = np.abs(stored[0] + known).max() < _UVW_M
            found = "position 1 minus position 2" if opposite else f"up to {off:.2f} m off"
            return judged(Assumption.UVW, False, expected, f"sb{subband:02d}: {found}", advice)
        if (moved := float(np.abs(stored - stored[0]).max())) > _UVW_M:
            found = f"sb{subband:02d}: it moves by up to {moved:.2f} m: a tracked phase centre"
            return judged(Assumption.UVW, False, expected, found, advice)
    return judged(Assumption.UVW, True, expected, "so", advice)
