"""`contimg sets`: what is there, what serves, and broken sets found by opening them."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from synthetic_root import Synthetic

from contimg.cli import main
from contimg.core import files
from contimg.sets import listing
from contimg.sets.registry import Registry

pytestmark = pytest.mark.slow

START = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)
FREQUENCIES_HZ = np.linspace(1.31e9, 1.49e9, 8)


def write_tables(folder: Path) -> None:
    """Caltables of three antennas as CASA lays them out; runs casatools."""
    from contimg.visibilities import casa

    table = casa.tools().table()
    for name, column, kind in (
        ("delay", "FPARAM", "float"),
        ("bandpass", "CPARAM", "complex"),
        ("gain", "CPARAM", "complex"),
    ):
        path = folder / f"{name}.cal"
        shutil.rmtree(path, ignore_errors=True)
        array = {"ndim": 2, "option": 0, "dataManagerType": "StandardStMan", "dataManagerGroup": "a"}
        plain = {"option": 0, "dataManagerType": "StandardStMan", "dataManagerGroup": "a"}
        description = {
            "TIME": {"valueType": "double", **plain},
            "ANTENNA1": {"valueType": "int", **plain},
            column: {"valueType": kind, **array},
            "FLAG": {"valueType": "boolean", **array},
            "SNR": {"valueType": "float", **array},
        }
        channels = 8 if name == "bandpass" else 1
        table.create(str(path), description, nrow=3)
        table.putcol("TIME", np.full(3, 5e9))
        table.putcol("ANTENNA1", np.arange(3))
        value = {"delay": 4.0, "bandpass": 1.5, "gain": 2j}[name]
        table.putcol(column, np.full((2, channels, 3), value))
        table.putcol("FLAG", np.zeros((2, channels, 3), bool))
        table.putcol("SNR", np.full((2, channels, 3), 50.0))
        table.close()
        table.create(str(path / "ANTENNA"), {"NAME": {"valueType": "string", **plain}}, nrow=3)
        table.close()
        table.create(
            str(path / "SPECTRAL_WINDOW"), {"CHAN_FREQ": {"valueType": "double", **array, "ndim": 1}}, nrow=1
        )
        table.putcol("CHAN_FREQ", FREQUENCIES_HZ[:channels, None])
        table.close()


@pytest.fixture(scope="module")
def tables(tmp_path_factory, in_process):
    folder = tmp_path_factory.mktemp("tables")
    in_process(write_tables, folder)
    return folder


@pytest.fixture
def registry(tmp_path, tables, monkeypatch):
    """Three sets, one of which failed its gate."""
    synthetic = Synthetic.make(tmp_path)
    for hours, name in ((0, "20260201T080000"), (5, "20260201T130000"), (6, "20260201T140000")):
        synthetic.set(name, START + timedelta(hours=hours))
        folder = synthetic.root.calibration(name)
        for path in tables.iterdir():
            shutil.rmtree(folder / path.name)
            shutil.copytree(path, folder / path.name)
        antennas = [{"name": str(n), "delay_ns": [4.0, 4.0], "amplitude": [3.0, 3.0]} for n in (1, 2, 3)]
        files.write_json(
            synthetic.root.set(name), {**files.read_json(synthetic.root.set(name)), "antennas": antennas}
        )
    path = synthetic.root.set("20260201T140000")
    content = files.read_json(path)
    measured = {"snr_median": 81.4, "phase_scatter_deg": 40.2, "flagged_solutions": 0.125}
    files.write_json(path, {**content, "quality": {**measured, "passed": False, "reasons": ["phase scatter 40°"]}})
    monkeypatch.setenv("CONTIMG_DATA_ROOT", str(synthetic.root.root))
    return synthetic


def test_the_list_says_what_serves_at_a_time(registry, capsys):
    assert main(["sets", "--at", "2026-02-01T10:30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[6] for line in lines[:3]] == ["serves", "serves", "failed"]
    assert lines[2].endswith("SNR 81, scatter 40.2°, 12% flagged; failed its quality gate: phase scatter 40°")
    assert lines[3] == (
        "a target at 2026-02-01 10:30 UTC gets: fresh from 20260201T080000 and 20260201T130000, 2.5 h away"
    )
    assert main(["sets", "--at", "2026-02-01T12:30+02:00"]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert main(["sets", "--at", "2026-02-01T07:00"]) == 0
    assert "gets: fresh from 20260201T080000" in capsys.readouterr().out
    assert main(["sets", "--at", "2026-03-01"]) == 0
    assert capsys.readouterr().out.startswith("a target at 2026-03-01 00:00 UTC gets: stale")
    assert main(["sets", "--at", "2026-03-01", "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_whole_sets_pass_the_check(registry, capsys):
    assert main(["sets", "check"]) == 0
    assert capsys.readouterr().out == "3 of 3 sets are whole\n"


def test_what_is_broken_is_found(registry, capsys):
    first, second, third = sorted(path.parent for path in registry.root.root.glob("calibration/*/*/set.json"))
    shutil.rmtree(first / "gain.cal")
    (second / "bandpass.cal" / "table.dat").write_bytes(b"noise" * 100)
    content = files.read_json(third / "set.json")
    content["antennas"][1]["delay_ns"] = [4.0, 5.0]
    content["antennas"][2]["amplitude"] = [3.0, 3.3]
    files.write_json(third / "set.json", content)
    unfinished = registry.root.calibration("20260201T200000")
    shutil.copytree(third / "gain.cal", unfinished / "gain.cal")
    faults = listing.check(registry.root)
    assert faults[first.name] == ["gain.cal missing"]
    assert "cannot be read as a caltable" in faults[second.name][0]
    assert faults[third.name] == [
        "antenna 2: delays of [4.0, 4.0] ns, set.json has [4.0, 5.0]",
        "antenna 3: amplitude 3.0, set.json has 3.3",
    ]
    assert "set.json cannot be read" in faults["20260201T200000"][0]
    assert main(["sets", "check"]) == 1
    assert "broken: 20260201T080000: gain.cal missing" in capsys.readouterr().err


def test_a_restored_set_is_registered_by_being_there(registry, tmp_path):
    folder = registry.root.calibration("20260201T080000")
    shutil.move(folder, tmp_path / "aside")
    moment = START + timedelta(hours=1)
    assert (
        "20260201T130000" in listing.list_sets(Registry(registry.root, registry.settings.calibration), moment, 1)[1]
    )
    shutil.move(tmp_path / "aside", folder)
    assert (
        "fresh from 20260201T080000"
        in listing.list_sets(Registry(registry.root, registry.settings.calibration), moment, 1)[1]
    )
