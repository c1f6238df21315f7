"""One thing stops everything: files of the outside world, and our own, with any content (hypothesis).

Names, headers and manifests are in `tests/unit/core/test_paths.py` and `tests/unit/ingest/test_placing.py`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from contimg.catalogues import calibrator_catalogue, source_table
from contimg.core import config
from contimg.core.errors import ContimgError
from contimg.core.paths import DataRoot
from contimg.execute.outcomes import job_done
from contimg.ingest.report import ScanReport
from contimg.job import attempt_record
from contimg.observing import requests
from contimg.sets.registry import Registry
from contimg.storage import last_run

GROUP = "20260112T080000"
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
