"""The sky that the simulator writes is the one that pyuvdata and astropy see; gains, noise and RFI are as asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_files import FEW, FIELD, SILENT, only, predicted, read, run, visibilities

from contimg.catalogues.source import Source
from contimg.simulator.simulator import (
    PERFECT,
    Corruptions,
    DeadAntennas,
    Interference,
    Preset,
    TrueGains,
)
from contimg.telescope import dsa110, stations

pytestmark = pytest.mark.filterwarnings("ignore:Recalculating uvw_array")


@pytest.mark.parametrize(("declination_deg", "field"), [(54.57, FIELD), (16.27, (Source("C", 128.0, 15.4, 2.0),))])
def test_visibilities_are_those_of_pyuvdata(
    tmp_path: Path, declination_deg: float, field: tuple[Source, ...]
) -> None:
    options: dict[str, Any] = {"sky": field, "declination_deg": declination_deg}
    truth = run(tmp_path, corruptions=PERFECT, noise=SILENT, fault_list=[only(0, 15)], **options)
    for subband in (0, 15):
        data = read(tmp_path / "incoming" / truth["groups"][0]["files"][subband])
        expected = sum(predicted(data, source, declination_deg) for source in field)
        assert np.abs(data.data_array - expected).max() < 1e-5 * np.abs(expected).max()


def measurement_sets(*paths: Path) -> list[dict[str, np.ndarray]]:
    """Main tables of the Measurement Sets that pyuvdata makes of raw files."""
    from casacore.tables import table

    tables = []
    for path in paths:
        data = read(path)
        data.phase(lon=np.radians(128.0), lat=np.radians(54.6), epoch=None, phase_frame="icrs", cat_name="centre")
        data.conjugate_bls("ant1<ant2")  # of mixed ones pyuvdata 3.2.4 writes the conjugate
        ms = str(path.with_suffix(".ms"))
        data.write_ms(ms)
        with table(ms, ack=False) as rows:
            tables.append({name: rows.getcol(name) for name in ("ANTENNA1", "ANTENNA2", "TIME", "DATA")})
    return tables


def test_measurement_set_has_the_gains_of_the_truth(tmp_path: Path, in_process: Callable[..., Any]) -> None:
    drifting = Corruptions(phase_drift_deg_per_hour=300.0, amplitude_drift_per_hour=2.0)
    paths = []
    for name, corruptions in (("perfect", PERFECT), ("corrupted", drifting)):
        truth = run(tmp_path / name, corruptions=corruptions, noise=SILENT, fault_list=[only(5)])
        paths.append(tmp_path / name / "incoming" / truth["groups"][0]["files"][5])
    perfect, corrupted = in_process(measurement_sets, *paths)
    first, second, time, data = (corrupted[name] for name in ("ANTENNA1", "ANTENNA2", "TIME", "DATA"))
    perfect = perfect["DATA"]
    gains = TrueGains.from_dict(truth["gains"])
    moments, moment = np.unique(time.round(3), return_inverse=True)
    value = gains.evaluate(moments, dsa110.subband_frequencies(5, FEW.channels))
    place = {int(number): index for index, number in enumerate(gains.antennas)}
    gain_1, gain_2 = (value[moment, [place[number] for number in numbers]] for numbers in (first, second))
    assert np.allclose(data, gain_1 * gain_2.conj() * perfect, rtol=0, atol=1e-5 * np.abs(perfect).max())
    cross = first != second
    assert not np.allclose(data[cross], gain_1[cross].conj() * gain_2[cross] * perfect[cross], rtol=0, atol=0.1)


def test_gains_are_as_large_as_asked() -> None:
    frequencies = np.concatenate([dsa110.subband_frequencies(subband) for subband in range(16)])
    asked = Corruptions(amplitude=0.0, phase_deg=0.0, delay_ns=0.0)
    gains = TrueGains.draw(asked, stations.WITH_DATA, 0.0, 1).evaluate(np.zeros(1), frequencies)[0]
    assert np.isclose(np.abs(gains).std(axis=1).mean(), asked.bandpass_amplitude, rtol=0.2)
    assert np.isclose(np.degrees(np.angle(gains)).std(axis=1).mean(), asked.bandpass_phase_deg, rtol=0.2)
    subset = TrueGains.draw(asked, (5, 11), 0.0, 1).evaluate(np.zeros(1), frequencies)[0]
    assert np.array_equal(subset, gains[[stations.WITH_DATA.index(5), stations.WITH_DATA.index(11)]])
    delays = TrueGains.draw(Corruptions(delay_ns=20.0), stations.WITH_DATA, 0.0, 1).delay_s
    assert 15e-9 < np.abs(delays).max() <= 20e-9


def test_noise_is_that_of_the_sefd(tmp_path: Path) -> None:
    preset = Preset(stations.WITH_DATA[:40], 6, 12)
    truth = run(tmp_path, preset=preset, sky=(), corruptions=PERFECT, fault_list=[only(0)])
    data = visibilities(tmp_path, truth, 0)
    first, second = preset.baselines()
    sigma = 6500 / np.sqrt(2 * preset.channel_width_hz * dsa110.INTEGRATION_S)
    cross = data[:, first != second]
    for part in (cross.real, cross.imag):
        assert abs(part.std() / sigma - 1) < 0.01
        assert abs(part.mean()) < 5 * sigma / np.sqrt(part.size)
    for left, right in ((cross[..., 0], cross[..., 1]), (cross[1:], cross[:-1]), (cross[:, :, 1:], cross[:, :, :-1])):
        assert abs((left * right.conj()).mean()) < 5 * 2 * sigma**2 / np.sqrt(left.size)
    autos = data[:, first == second].real
    assert np.isclose(autos.mean(), 6500, rtol=1e-4)
    assert abs(autos.std() / (sigma * np.sqrt(2)) - 1) < 0.05


def test_noise_enters_before_the_gains(tmp_path: Path) -> None:
    truth = run(tmp_path, sky=(), preset=Preset(FEW.antennas, 6, 24), fault_list=[only(0)])
    data = visibilities(tmp_path, truth, 0)
    gains = np.abs(TrueGains.from_dict(truth["gains"]).evaluate(np.zeros(1), dsa110.subband_frequencies(0, 6))[0])
    first, second = (np.array([FEW.antennas.index(number) for number in side]) for side in FEW.baselines())
    corrected = (data / (gains[first] * gains[second]))[:, first != second]
    sigma = 6500 / np.sqrt(2 * FEW.channel_width_hz * dsa110.INTEGRATION_S)
    assert np.allclose(corrected.real.std(axis=(0, 2, 3)), sigma, rtol=0.25)
    assert np.isclose(corrected.real.std(), sigma, rtol=0.03)


@pytest.mark.parametrize("zeros", [False, True])
def test_dead_antennas_receive_nothing(tmp_path: Path, zeros: bool) -> None:
    truth = run(
        tmp_path, dead=DeadAntennas((40, 106), zeros), fault_list=[only(0)], sky=(Source("A", 128, 54.5, 1e4),)
    )
    data = visibilities(tmp_path, truth, 0)
    first, second = FEW.baselines()
    dead = np.isin(first, (40, 106)) | np.isin(second, (40, 106))
    cross = first != second
    assert np.abs(data[:, dead & cross]).max() < (1e-9 if zeros else 10)
    assert np.abs(data[:, dead & cross]).min() == 0 if zeros else np.abs(data[:, dead & cross]).min() > 0
    assert np.abs(data[:, ~dead & cross]).min() > 1000
    assert truth["dead"]["antennas"] == (40, 106)


def test_interference_is_where_the_truth_says(tmp_path: Path) -> None:
    preset = Preset(FEW.antennas, 48, 8)
    asked = Interference(persistent=3, bursts=4, level_jy=1000.0)
    truth = run(tmp_path, preset=preset, sky=(), groups=2, interference=asked, cadence_s=300.0)
    first, second = preset.baselines()
    steady = []
    for number, group in enumerate(truth["groups"]):
        expected = np.zeros((16, 8, 48), bool)
        for event in group["rfi"]:
            channels = slice(event["first_channel"], event["first_channel"] + event["channels"])
            times = slice(event["first_integration"], event["first_integration"] + event["integrations"])
            expected[event["subband"], times, channels] = True
        amplitudes = [
            np.abs(visibilities(tmp_path, truth, s, number)[:, first != second]).mean(axis=(1, 3)) for s in range(16)
        ]
        assert np.array_equal(np.array(amplitudes) > 100, expected)
        steady.append([(e["subband"], e["first_channel"]) for e in group["rfi"] if e["integrations"] == 8])
    assert steady[0] == steady[1]
    assert len(steady[0]) == 3
