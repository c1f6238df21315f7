"""One thing stops everything: files of the outside world, and our own, with any content (hypothesis).

Names, headers and manifests are in `tests/unit/core/test_paths.py` and `tests/unit/ingest/test_placing.py`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from bookkeeping import NOW, Played
from hypothesis import given, settings
from hypothesis import strategies as st

from contimg.antennas import history as antennas_history
from contimg.antennas import positions
from contimg.catalogues import calibrator_catalogue, source_table
from contimg.cli import main
from contimg.core import config
from contimg.core.errors import ContimgError
from contimg.core.paths import DataRoot, group_start
from contimg.core.products import PRODUCTS
from contimg.execute.outcomes import job_done
from contimg.ingest.report import ScanReport
from contimg.job import attempt_record
from contimg.mosaic import mosaic
from contimg.observing import requests
from contimg.runner.recovery import RecoverySettings, recover
from contimg.sets import drift
from contimg.sets.registry import Registry
from contimg.storage import last_run

GROUP = "20260112T080000"
ODD_NAMES = (
    b"20260230T120000",
    b"20260112T250000",
    b"20260112T080000-99999999999m",
    b"99991231T235959",
    b"00010101T000000",
    b"20260112T08\xff000",
    b"20260112T080000 \xe9",
    b"20260112T080000\n",
    b"-rf",
)
"""Names that people, copy tools and clocks give: impossible times, bytes that are no letters, a line break."""
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TREES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


def changed(content: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A JSON file with one value of another kind, cut off somewhere, with one byte changed, or of noise."""
    whole = json.dumps(content).encode()
    keys = st.sampled_from(sorted(content))
    other = st.builds(lambda key, value: json.dumps(content | {key: value}).encode(), keys, TREES)
    without = keys.map(lambda key: json.dumps({k: v for k, v in content.items() if k != key}).encode())
    cut = st.integers(0, len(whole)).map(lambda end: whole[:end])
    flipped = st.builds(
        lambda at, byte: whole[:at] + bytes([byte]) + whole[at + 1 :],
        st.integers(0, len(whole) - 1),
        st.integers(0, 255),
    )
    return (
        other | without | cut | flipped | st.binary(max_size=200) | TREES.map(lambda tree: json.dumps(tree).encode())
    )


def told(work: Callable[[], Any]) -> None:
    """What is refused is refused in a line that says more than a word."""
    try:
        work()
    except ContimgError as error:
        assert len(str(error)) > 20
        assert str(error).isprintable()


RECORD = {
    "rule": "image",
    "group": GROUP,
    "attempt": 1,
    "outcome": "ok",
    "started": "2026-01-12T08:00:00+00:00",
    "host": "h",
    "pid": 1,
    "log": "l",
    "finished": "2026-01-12T08:01:00+00:00",
    "duration_s": 60.0,
    "error_class": "",
}


@settings(max_examples=50, deadline=None)
@given(changed(RECORD))
def test_an_attempt_record(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot(Path(folder))
        path = root.attempt(GROUP, "image", 1)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        left_out: list[Path] = []
        for record in attempt_record.records(root, GROUP, None, lambda path, _: left_out.append(path)):
            assert (record.lives, record.finished_s >= 0 or record.started_s) is not None
            record.ended(None)
        assert attempt_record.newest(attempt_record.records(root, GROUP)).keys() <= {"image"} or not left_out


SET = {
    "group": GROUP,
    "calibrator": "J0834+5534",
    "observed_utc": "2026-01-12T08:02:30+00:00",
    "quality": {"passed": True, "reasons": []},
    "valid_from": None,
    "declination_deg": 54.57,
}


def test_names_of_any_kind_beside_the_products(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mosaic failed for good, the backup and the start of a runner ended in tracebacks."""
    played = Played(tmp_path / "data")
    group, root = played.whole_way(0), played.root
    folders = {root.log(group, "image").parent, *(folder for folder in root.root.glob("*/*") if folder.is_dir())}
    folders |= {folder for folder in root.root.iterdir() if folder != root.incoming}
    folders |= {folder.parent / "2026-02-30" for folder in folders} | {root.root / "quarantine", root.requests}
    for folder in folders:
        folder.mkdir(exist_ok=True)
        for number, (name, suffix) in enumerate(product(ODD_NAMES, (b"", b".json", b".ms", b".image.fits"))):
            path = folder / os.fsdecode(name + suffix)
            if number % 3:
                path.write_text("[]")
            else:
                path.mkdir()
    window = played.row(group).window
    played.ledger.close()
    root.ledger.unlink()
    played.ledger = recover(root, played.settings.part(RecoverySettings), lambda: None, NOW)
    assert played.row(group).state == "done"
    assert mosaic._groups_of_window(root, window, None) == [group]
    assert {unit for name in PRODUCTS for unit, _ in root.made(name)} == {group}
    for command in ("audit", "status", "sets", "backup", "retain --dry-run", "quarantine list"):
        code = main([*command.split(), "--data-root", str(root.root)])
        said = capsys.readouterr().out
        assert code == (command == "audit"), said
        assert all(line.isprintable() for line in said.splitlines())


@settings(max_examples=40, deadline=None)
@given(changed(SET))
def test_a_set(content: bytes) -> None:
    """It has not passed, or says when it was observed; the registry goes on with the others."""
    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot(Path(folder))
        for group, said in ((GROUP, content), ("20260112T090000", json.dumps(SET | {"group": "20260112T090000"}))):
            root.set(group).parent.mkdir(parents=True)
            root.set(group).write_bytes(said if isinstance(said, bytes) else said.encode())
        found = Registry(root, config.Settings(data_root=root.root).calibration).on("2026-01-12")
        assert "20260112T090000" in [one.group for one in found if one.passed]
        assert all(isinstance(one.declination_deg, float | None) for one in found)


ANTENNAS = {
    "group": GROUP,
    "sets": [f"calibration/2026-01-12/{GROUP}/set.json"],
    "names": ["1", "2", "117"],
    "state": ["good", "failing", "dead"],
    "reasons": [[], ["X: 70% flagged"], []],
    "phase_centre_deg": [128.7, 55.6],
    "silent_s": [0.0, None, 2.0],
    "field_passed": True,
    **{
        key: [[0.1, 0.2], [0.1, None], [1.0, 1.0]]
        for key in ("flagged", "gain", "phase_deg", "amplitude", "offset_mm", "offset_error_mm")
    },
}


@settings(max_examples=200, deadline=None)
@given(changed(ANTENNAS))
def test_antennas_of_a_group(content: bytes) -> None:
    """An odd file failed every later image, as the group's own fault, and ended all alerts."""
    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot(Path(folder))
        for group, said in ((GROUP, content), ("20260112T080500", json.dumps(ANTENNAS).encode())):
            root.path("antennas", group).parent.mkdir(parents=True, exist_ok=True)
            root.path("antennas", group).write_bytes(said)
        now = group_start("20260112T090000")
        drift.learned_drift(root, now)
        antennas_history.alarms(root, now)
        described = antennas_history.groups(root, now, 24)
        assert "20260112T080500" in [one["group"] for one in described]
        antennas_history.table(described)
        positions.solve(described)
        states = [(one["names"], one["state"], one["reasons"]) for one in described]
        assert all(len(names) == len(state) == len(reasons) for names, state, reasons in states)


@settings(max_examples=60, deadline=None)
@given(changed({"group": GROUP, "age_hours": 1.0, "calibrator": None}))
def test_sidecars_of_jobs(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot(Path(folder))
        for stage, path in (("detect", root.calibrator(GROUP)), ("image", root.image(GROUP, "json"))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            try:
                job_done(root, stage, GROUP)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # told by its caller, for this group alone


@settings(max_examples=60, deadline=None)
@given(changed({"id": "20260112T080000", "calibrator": "J0834+5534", "raised": "2026-01-12T08:00:00+00:00"}))
def test_notes_of_the_runner(content: bytes) -> None:
    """The look at incoming/, a chore's last outcome, a request."""
    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot(Path(folder))
        for path in (root.state / "arrivals.json", root.state / "backup.json", root.requests / f"{GROUP}.json"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        ScanReport.read(root)
        last_run.read(root, "backup")
        requests.open_request(root)


CATALOGUE = b"name,ra_deg,dec_deg,flux_jy,spectral_index\nA,128.7,55.6,8.8,-0.36\nB,133.0,57.4,0.94,\n"
LINES = st.lists(
    st.text(alphabet='A1.,"#;|\t -+eEnaN\ufeffä°', max_size=30).map(lambda line: line.encode("utf-8")), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(lambda at, lines: CATALOGUE[:at] + b"\n".join(lines) + CATALOGUE[at:], st.integers(0, 90), LINES)
    | st.integers(0, 90).map(lambda end: CATALOGUE[:end])
    | st.binary(max_size=200),
    st.sampled_from([".csv", ".txt", ".vot"]),
)
def test_a_catalogue(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"list{suffix}"
        path.write_bytes(content)
        told(lambda: source_table.read_sources(path))
        told(lambda: calibrator_catalogue.read(path))


SETTINGS = {"data_root": "/data", "ingest": {"min_subbands": 12}, "limits": {"conversions": 2}, "alerts": {}}


@settings(max_examples=60, deadline=None)
@given(
    changed(SETTINGS)
    | st.builds(
        lambda section, key, value: yaml.safe_dump({"data_root": "/data", section: {key: value}}).encode(),
        st.sampled_from(sorted(config.Settings.model_fields)),
        st.text(max_size=8) | st.sampled_from(["conversions", "min_subbands", "thresholds", "channels", "default"]),
        TREES,
    )
)
def test_settings(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(content)
        told(lambda: config.load(path, {}))
