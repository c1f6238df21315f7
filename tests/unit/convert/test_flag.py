"""Interference, loud rows and dead antennas are found; bright skies are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw_groups as raw

from contimg.catalogues.source import Source
from contimg.convert import flag
from contimg.core.paths import DataRoot
from contimg.ingest import groups
from contimg.simulator import simulator
from contimg.telescope import dsa110

SIGMA = 6.0


def mean_amplitudes(rng: np.random.Generator, noise: float) -> np.ndarray:
    """What a group gives: a smooth bandpass, a source that drifts, noise; (T, P, C)."""
    band = np.linspace(-1, 1, 768)
    bandpass = 1 + 0.1 * band - 0.05 * band**2 + 0.03 * np.sin(7 * band)
    drift = 1 + 0.1 * np.linspace(0, 1, 24)
    return drift[:, None, None] * bandpass * (1 + noise * rng.standard_normal((24, 2, 768)))


@pytest.mark.parametrize("noise", [0.0, 0.0008, 0.008])
def test_nothing_is_found_in_clean_data(noise: float) -> None:
    rng = np.random.default_rng(1)
    assert flag.interference(mean_amplitudes(rng, noise), SIGMA).mean() < 1e-3


@pytest.mark.parametrize("noise", [0.004, 0.008, 0.03])
def test_persistent_channels_and_bursts_at_ten_sigma(noise: float) -> None:
    rng = np.random.default_rng(2)
    amplitude = mean_amplitudes(rng, noise)
    channels = rng.choice(768, 30, replace=False)
    amplitude[:, :, channels] *= 1 + 10 * noise
    assert flag.interference(amplitude, SIGMA)[:, channels].mean() > 0.95

    amplitude = mean_amplitudes(rng, noise)
    injected = np.zeros((24, 768), bool)
    for _ in range(40):
        time, channel = rng.integers(22), rng.integers(756)
        injected[time : time + rng.integers(1, 4), channel : channel + rng.integers(1, 13)] = True
    amplitude *= np.where(injected, 1 + 10 * noise, 1)[:, np.newaxis]
    found = flag.interference(amplitude, SIGMA)
    assert found[injected].mean() > 0.95
    assert found[~injected].mean() < 1e-3


def test_missing_channels_are_not_interference() -> None:
    amplitude = mean_amplitudes(np.random.default_rng(3), 0.008)
    amplitude[:, :, 48:96] = np.nan
    amplitude[:, :, 700] *= 3
    found = flag.interference(amplitude, SIGMA)
    assert not found[:, 48:96].any()
    assert found[:, 700].all()
    assert found.sum() <= 24 + 5


def test_nothing_there() -> None:
    assert not flag.interference(np.full((24, 2, 96), np.nan), SIGMA).any()


def test_a_loud_row() -> None:
    rng = np.random.default_rng(4)
    median = (3 + 0.02 * rng.standard_normal((24, 50, 2))).astype(np.float32)
    median[:, 7] *= np.linspace(0.7, 1.3, 24)[:, None]  # a source that drifts
    median[5, 20, 1] = 9
    expected = np.zeros(median.shape, bool)
    expected[5, 20, 1] = True
    np.testing.assert_array_equal(flag.loud_rows(median, 7), expected)
    assert not flag.loud_rows(median[:4], 7).any()


def statistics(antennas: int = 12, coherence: float = 0.2) -> flag.Statistics:
    rng = np.random.default_rng(5)
    first, second = np.triu_indices(antennas)
    median = np.where(first == second, 6500.0, 3.0) * np.ones((24, 1))
    return flag.Statistics(
        *np.ones((2, 24, 2, 96)),
        np.repeat(median[..., np.newaxis], 2, axis=2).astype(np.float32),
        (coherence + 0.1 * rng.standard_normal((24, len(first), 2, 2)) @ [1, 1j]).astype(np.complex64),
        np.ones((24, len(first), 2), np.float32),
        first,
        second,
        (-5, -6),
    )


def test_dead_antennas() -> None:
    data = statistics()
    auto = data.first == data.second
    data.row_median[:, auto & (data.first == 3)] = 0
    data.row_median[:, auto & (data.first == 5), 1] *= 100
    unseeing = (data.first == 8) | (data.second == 8)
    data.coherence[:, unseeing] -= 0.2
    expected = np.zeros((12, 2), bool)
    expected[3] = expected[8] = expected[5, 1] = True
    np.testing.assert_array_equal(flag.dead_antennas(data), expected)


def test_an_antenna_that_sees_what_is_far_from_the_beam_is_not_dead() -> None:
    """On its long baselines such a source turns by half a turn from one channel to the next."""
    data = statistics()
    far = (data.first == 8) | (data.second == 8)
    data.coherence[:, far] -= 0.3
    assert not flag.dead_antennas(data).any()


def burst(level: float, part: slice) -> tuple[flag.Statistics, np.ndarray]:
    """What a burst in one integration and part of the band makes of a group in which a source drifts, and where."""
    rng = np.random.default_rng(7)
    data = statistics()
    amplitude = mean_amplitudes(rng, 0.004)
    amplitude[11, :, part] *= level
    row = np.median(amplitude, axis=2)  # as rows are seen; amplitudes are relative to it
    data.row_median[:] *= row[:, np.newaxis] * (1 + 0.1 * rng.standard_normal(data.row_median.shape))
    injected = np.zeros((24, 768), bool)
    injected[11, part] = True
    relative = amplitude / row[:, :, np.newaxis]
    return replace(data, mean_amplitude=relative, mean_step=np.ones_like(relative)), injected


@pytest.mark.parametrize("part", [slice(0, 768), slice(192, 336)], ids=["the whole band", "three subbands"])
def test_a_broad_burst(part: slice) -> None:
    data, injected = burst(1.4, part)
    found = flag.decide(data, SIGMA, 7).channels
    assert found[injected].all()
    assert not found[~injected].any()
    quiet, _ = burst(1.0, part)
    assert not flag.decide(quiet, SIGMA, 7).channels.any()


@pytest.mark.parametrize("toward", [1, -1], ids=["leaving", "coming"])
def test_a_bright_source_on_the_beam_s_flank_is_no_satellite(toward: int) -> None:
    """Amplitudes of a source of 22 Jy, 2° to 3.2° from the centre of a beam 3.2° wide, over a noise of 2.8 Jy."""
    off_deg = 2.0 + np.arange(24)[::toward] * 12.88 * 15 / 3600
    apparent_jy = 22 * np.exp2(-((2 * off_deg / 3.2) ** 2))
    level = np.sqrt(1 + apparent_jy**2 / (2 * 2.8**2))[:, np.newaxis, np.newaxis]  # rms amplitude
    # The steps of noise, and of a source that turns by a sixth of a rad in them.
    steps = np.sqrt(1 + (apparent_jy / 6) ** 2 / (4 * 2.8**2))[:, np.newaxis, np.newaxis]
    data = statistics()
    data.row_median[:] *= level
    noise = 1 + 1e-3 * np.random.default_rng(8).standard_normal((24, 2, 768))
    data = replace(data, mean_amplitude=noise, mean_step=noise * steps / level)
    known = np.zeros((24, 768), bool)
    assert not flag.bursts(data, known, SIGMA).any()
    first = np.where(np.arange(24) == 0, 1.02, 1.0)[::toward, np.newaxis, np.newaxis]
    seen = flag.bursts(replace(data, mean_step=data.mean_step * first), known, SIGMA).all(axis=1)
    assert np.flatnonzero(seen).tolist() == [0 if toward == 1 else 23]
    one = np.where(np.arange(2) == 1, first[:, :, 0], 1.0)  # satellites are in both polarizations
    assert not flag.bursts(replace(data, mean_step=data.mean_step * one[:, :, np.newaxis]), known, SIGMA).any()


def test_subbands_that_began_late_make_no_satellite_of_the_rest() -> None:
    """Ten of sixteen are missing from the first two integrations, in which a source comes up."""
    level = (1 + 0.2 * np.minimum(np.arange(24) / 6, 1))[:, np.newaxis, np.newaxis]
    data = statistics()
    data.row_median[:] *= level
    amplitude = 1 + 1e-3 * np.random.default_rng(9).standard_normal((24, 2, 768))
    amplitude[:2, :, :480] = np.nan
    seen = replace(data, mean_amplitude=amplitude, mean_step=amplitude / level)
    assert not flag.bursts(seen, np.zeros((24, 768), bool), SIGMA).any()


def test_a_loud_antenna_or_a_short_group_is_no_burst() -> None:
    data, _ = burst(1.0, slice(0, 768))
    data.row_median[5, (data.first == 3) | (data.second == 3)] *= 30
    assert not flag.bursts(data, np.zeros((24, 768), bool), SIGMA).any()
    loud, _ = burst(1.4, slice(0, 768))
    few = replace(loud, **{key: getattr(loud, key)[9:13] for key in ("mean_amplitude", "mean_step", "row_median")})
    assert not flag.bursts(few, np.zeros((4, 768), bool), SIGMA).any()


def test_an_empty_sky_makes_nobody_dead() -> None:
    assert not flag.dead_antennas(statistics(coherence=0.0)).any()


def test_dead_receptors_flag_their_polarizations() -> None:
    data = statistics()
    auto = data.first == data.second
    data.row_median[:, auto & (data.first == 2), 0] = 0
    four = flag.Statistics(
        data.mean_amplitude[:, [0, 0, 0, 1]],
        data.mean_step[:, [0, 0, 0, 1]],
        data.row_median[:, :, [0, 0, 0, 1]],
        data.coherence[:, :, [0, 0, 0, 1]],
        data.power[:, :, [0, 0, 0, 1]],
        data.first,
        data.second,
        (-5, -7, -8, -6),
    )
    bits = flag.decide(four, SIGMA, 7).dead_rows
    # XX, XY, YX, YY are bits 0 to 3: a dead X takes XX and XY where it is first, XX and YX where it is second.
    assert bits[(data.first == 2) & (data.second == 9)] == 0b0011
    assert bits[(data.first == 1) & (data.second == 2)] == 0b0101
    assert bits[(data.first == 2) & (data.second == 2)] == 0b0111
    assert bits[(data.first == 4) & (data.second == 9)] == 0


def converted(root: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
    """Result of converting the data root's group, its flags (T, B, C, P) and its antennas."""
    from casacore import tables

    from contimg.convert.convert import ConversionSettings, convert

    settings = raw.settings(root)
    (group,) = groups.scan(DataRoot(root), settings.ingest, datetime.now(UTC) + timedelta(minutes=5)).groups
    result = convert(DataRoot(root).manifest(group.name), root / "group.ms", settings.part(ConversionSettings), 2)
    with tables.table(str(root / "group.ms"), ack=False) as table:
        shape = (result["integrations"], result["baselines"], result["channels"], -1)
        first, second = (table.getcol(name, 0, shape[1]) for name in ("ANTENNA1", "ANTENNA2"))
        return result, table.getcol("FLAG").reshape(shape), first, second


RANDOM = np.random.default_rng(6)
SKIES = {
    "20 Jy": [Source("A", 113.9, 54.9, 20.0)],
    "beating pair": [Source("A", 113.6, 54.6, 5.0), Source("B", 114.2, 54.5, 4.9)],
    "crowd": [
        Source(f"S{k}", 113.7 + RANDOM.normal() * 1.5, 54.6 + RANDOM.normal() * 0.9, float(RANDOM.exponential()))
        for k in range(40)
    ],
    "very bright": [Source("A", 114.5, 54.2, 3000.0)],
}


@pytest.mark.parametrize("noisy", [True, False], ids=["noise", "no noise"])
@pytest.mark.parametrize("sky", list(SKIES))
def test_the_sky_is_not_flagged(tmp_path: Path, casacore: Callable[..., Any], sky: str, noisy: bool) -> None:
    raw.make(tmp_path, raw.MEDIUM, sky=SKIES[sky], noise=simulator.Noise(enabled=noisy))
    result, flags, _, _ = casacore(converted, tmp_path)
    assert flags.mean() == pytest.approx(result["flagged_fraction"])
    assert result["flagged_fraction"] < (1e-4 if noisy else 0.01)
    assert result["dead_antennas"] == []


def test_an_outrigger_that_sees_a_source_in_a_side_lobe_is_not_dead(
    tmp_path: Path, casacore: Callable[..., Any]
) -> None:
    outriggers = (102, 107, 113)
    preset = simulator.Preset((*raw.MEDIUM.antennas, *outriggers), 12)
    dead = raw.MEDIUM.antennas[4]
    far = Source("A", 124.0, 52.5, 3000.0)
    raw.make(tmp_path, preset, sky=[*raw.SKY[1:], far], dead=simulator.DeadAntennas((dead,)))
    result, *_ = casacore(converted, tmp_path)
    assert result["dead_antennas"] == [dead]


@pytest.mark.parametrize("zeros", [True, False])
def test_injected_faults_are_flagged_and_reported(tmp_path: Path, casacore: Callable[..., Any], zeros: bool) -> None:
    dead = (raw.MEDIUM.antennas[2], raw.MEDIUM.antennas[15])
    truth = raw.make(
        tmp_path,
        raw.MEDIUM,
        interference=simulator.Interference(persistent=8, bursts=12, level_jy=30.0),
        dead=simulator.DeadAntennas(dead, zeros=zeros),
    )
    result, flags, first, second = casacore(converted, tmp_path)
    assert result["dead_antennas"] == list(dead)
    with_dead = np.isin(first, dead) | np.isin(second, dead)
    assert flags[:, with_dead].all()
    injected = np.zeros((24, 192), bool)
    for event in truth["groups"][0]["rfi"]:
        channel = (15 - event["subband"]) * 12 + 12 - event["first_channel"] - event["channels"]
        time = event["first_integration"]
        injected[time : time + event["integrations"], channel : channel + event["channels"]] = True
    living = flags[:, ~with_dead].transpose(0, 2, 1, 3)
    assert living[injected].mean() > 0.99
    assert living[~injected].mean() < 1e-3
    assert result["flagged_by_reason"]["rfi"] == pytest.approx(injected.mean(), rel=0.05)
    assert result["flagged_by_reason"]["dead"] == pytest.approx(with_dead.mean())
    assert (result["flagged_by_reason"]["zero"] > 0.1) == zeros
    assert flags.mean() == pytest.approx(result["flagged_fraction"])
    for name, fraction in result["flagged_by_subband"].items():
        channel = (15 - int(name)) * 12
        assert flags[:, :, channel : channel + 12].mean() == pytest.approx(fraction)


def test_a_satellite_takes_the_integrations_that_it_crosses(tmp_path: Path, casacore: Callable[..., Any]) -> None:
    """At the noise of a baseline in one channel, while a calibrator of nine Jy is in the beam."""
    noise_jy = dsa110.SEFD_JY / np.sqrt(2 * raw.MEDIUM.channel_width_hz * dsa110.INTEGRATION_S)
    satellite = simulator.Interference(satellites=1, satellite_jy=noise_jy)
    truth = raw.make(tmp_path, raw.MEDIUM, interference=satellite, seed=5)
    _, flags, *_ = casacore(converted, tmp_path)
    events = truth["groups"][0]["rfi"]
    crossed, strongly = (
        sorted({event["first_integration"] for event in events if event["mean_jy"] > least_jy})
        for least_jy in (0, 0.5 * noise_jy)
    )
    assert strongly
    assert flags[strongly].all()
    assert np.delete(flags, crossed, axis=0).mean() < 1e-3


def test_a_degraded_group_says_so(tmp_path: Path, casacore: Callable[..., Any]) -> None:
    raw.make(tmp_path, raw.TINY, dead=simulator.DeadAntennas(raw.TINY.antennas[:1], zeros=True))
    result, *_ = casacore(converted, tmp_path)
    assert result["flagged_fraction"] == pytest.approx(0.4)
    assert result["degraded"]
