"""Raw files with everything that can be wrong: each group ends processed, or quarantined with a reason."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from contimg.core.paths import RawName
from contimg.ingest import quarantine
from contimg.simulator.faults import Fault, FaultKind

from .site import SETTINGS, simulated, site

pytestmark = pytest.mark.slow

ONE_BAD = (3,)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Groups by what is wrong with them."""
    kinds = {
        "truncated subband": Fault(FaultKind.TRUNCATED, 0, ONE_BAD),
        "zeroed subband": Fault(FaultKind.ZEROED, 1, ONE_BAD),
        "foreign": Fault(FaultKind.WRONG_TELESCOPE, 2),
        "clockless": Fault(FaultKind.CLOCKLESS, 3),
        "never completes": Fault(FaultKind.MISSING, 4, tuple(range(8))),
        "whole": Fault(FaultKind.SPLIT, 5, ONE_BAD),
    }
    groups = simulated(tmp_path_factory.mktemp("spoiled"), 6, 1, fault_list=tuple(kinds.values()))
    return dict(zip(kinds, groups, strict=True))


def test_every_kind_of_bad_file(tmp_path: Path, spoiled: dict[str, list[Path]]) -> None:
    with site(tmp_path) as place:
        for files in spoiled.values():
            place.arrive(*files)
        stem = spoiled["whole"][0].name.removesuffix(".hdf5")
        (place.root.incoming / f"{stem}_incomplete.hdf5").write_text("still being written")
        place.start()

        def settled() -> bool:
            stages = place.rows("SELECT state, stage, error_class FROM groups")
            return len(stages) == 6 and all(
                state == "quarantined" or (state, stage) in (("due", "image"), ("done", ""))
                for state, stage, _ in stages
            )

        place.until(settled)
        place.until(lambda: len([*quarantine.entries(place.root)]) == 3)  # moved after the ledger says so
        entries = {entry.group: entry for entry in quarantine.entries(place.root)}
        reasons = " ".join(entry.reason for entry in entries.values())
        for words in ("wrong_telescope", "clockless", "missing"):
            assert words in reasons
        assert all(entry.error_class == "corrupt_input" for entry in entries.values())
        books = place.books()
        assert books.problems == []
        assert books.counts["files in quarantine"] == 16 + 16 + 8
        assert books.counts["files left alone (not finished, or not ours)"] == 2


def test_a_subband_that_comes_late_or_twice(tmp_path: Path, raw: list[list[Path]]) -> None:
    """The group is taken without it, and made again with it; what comes twice is told."""
    with site(tmp_path) as place:
        place.arrive(*raw[0][:-1])
        place.start()
        place.until(lambda: place.converted(1))
        ((name,),) = place.rows("SELECT name FROM groups")
        sidecar = place.root.ms_sidecar(name)
        assert len(json.loads(sidecar.read_text())["missing_subbands"]) == 1
        place.arrive(raw[0][-1])
        place.until(lambda: sidecar.exists() and json.loads(sidecar.read_text())["missing_subbands"] == [])
        place.assert_converted(1)
        opened = RawName.parse(raw[0][0].name)
        again = tmp_path / str(replace(opened, opened=opened.opened + timedelta(seconds=1)))
        shutil.copyfile(raw[0][0], again)
        place.arrive(again)
        place.until(lambda: f"{again.name}: group {name} has this subband already" in place.log.read_text())
        place.until(lambda: place.books().problems == [])  # told before the manifest is written
        place.assert_converted(1)


def test_the_ways_out_of_quarantine(tmp_path: Path, raw: list[list[Path]]) -> None:
    """The rest of a group arrives; a setting changes that was to blame, here the time limit."""
    with site(tmp_path, retry={"max_attempts": 0}, limits={**SETTINGS["limits"], "convert_minutes": 0.001}) as place:
        place.arrive(*raw[0][:8])
        place.start()
        place.until(lambda: list(place.states().values()) == ["quarantined"])
        place.until(lambda: list(quarantine.entries(place.root)))  # the record first, then its files
        assert "missing" in next(quarantine.entries(place.root)).reason
        assert place.books().problems == []
        place.arrive(*raw[0][8:])
        convert = "SELECT * FROM groups WHERE state = 'quarantined' AND stage = 'convert'"
        place.until(lambda: place.rows(convert))
        place.until(lambda: list(quarantine.entries(place.root)))
        assert place.books().problems == []
        (entry,) = quarantine.entries(place.root)
        place.write_settings(limits={"convert_minutes": 5})
        place.signal(signal.SIGHUP)
        place.assert_resumes(entry.group)
        place.assert_converted(1)
