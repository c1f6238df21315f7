"""A data root with sidecars as the pipeline writes them and random bytes for data: to test disks, not science."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from attempt_files import attempt

from contimg.core import config, files
from contimg.core.paths import DataRoot, RawName, group_id, window_of
from contimg.sets import reimaging
from contimg.sets.registry import Registry
from contimg.sets.select import select
from contimg.storage import retention
from contimg.storage.retention_candidates import RetentionSettings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_BLOCK = 2880
_INTEGRATION_S = 12.884902
_LONGEST_S = 200
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.utime", "os.chmod")


def fits_bytes(seed: str, pixels: int = 32) -> bytes:
    """A small whole FITS image."""
    cards = ["SIMPLE  =                    T", "BITPIX  =                  -32", "NAXIS   =                    2"]
    cards += [f"NAXIS1  = {pixels:20d}", f"NAXIS2  = {pixels:20d}", "END"]
    header = "".join(card.ljust(80) for card in cards).ljust(_BLOCK).encode()
    data = random.Random(seed).randbytes(4 * pixels * pixels)
    return header + data.ljust(-(-len(data) // _BLOCK) * _BLOCK, b"\0")


def tree(path: Path) -> dict[str, tuple[bytes, int] | None]:
    """Every file under a path with its data and time; None for a folder. Equal trees are equal copies."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    return {
        str(each.relative_to(path)): None if each.is_dir() else (each.read_bytes(), each.stat().st_mtime_ns)
        for each in sorted(paths)
    }


class Usage(NamedTuple):
    """Stands for `shutil.disk_usage`'s answer."""

    total: int
    used: int
    free: int


def on_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> Synthetic:
    """A data root on a disk of 1 TB without a free byte, for retention."""
    monkeypatch.setattr("contimg.storage.retention_candidates.shutil.disk_usage", lambda _: Usage(10**12, 10**12, 0))
    return Synthetic.make(path)


def planned(synthetic: Synthetic, now: datetime = NOW) -> retention.RetentionPlan:
    """What retention would do."""
    return retention.plan_now(synthetic.root, synthetic.settings.part(RetentionSettings), now)


def retained(synthetic: Synthetic, now: datetime = NOW) -> tuple[int, list[str]]:
    """Let retention run; how many things failed, and what it said."""
    said: list[str] = []
    failures = retention.run(synthetic.root, synthetic.settings.part(RetentionSettings), now, said.append)
    return failures, said


def going(plan: retention.RetentionPlan) -> list[tuple[str, str]]:
    """Kinds and groups of what goes."""
    return [(one.unit.kind, one.unit.group) for one in plan.removals]


def lives(work: Callable[[], object], number: int) -> bool:
    """Whether work outlives its `number`th change of the file system: in a child, which is killed (SIGKILL) there."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            writes = (
                event == "open" and isinstance(arguments[1], str) and any(mode in arguments[1] for mode in "wxa+")
            )
            if writes or event in _CHANGES:
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        signal.alarm(_LONGEST_S)
        try:
            work()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        return True
    assert os.WTERMSIG(status) == signal.SIGKILL, f"it hung at change {number}"
    return False


@dataclass(frozen=True)
class Synthetic:
    """A data root in the making."""

    root: DataRoot
    settings: config.Settings

    @classmethod
    def make(cls, path: Path, **sections: Any) -> Synthetic:
        """An empty data root in `path`/root, with an archive folder beside it."""
        for folder in ("root/incoming", "cold"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        content = {"archive": {"destination": str(path / "cold")}, **sections}
        settings = config.validated({"data_root": str(path / "root"), **content}, {})
        return cls(DataRoot(settings.data_root), settings)

    def with_settings(self, **sections: Any) -> Synthetic:
        """The same data root under other settings."""
        content = self.settings.model_dump(mode="json")
        for section, values in sections.items():
            content[section] = {**content[section], **values}
        return replace(self, settings=config.validated(content, {}))

    def group(
        self,
        start: datetime,
        *,
        calibrator: bool = False,
        image: bool = True,
        days_old: float = 10,
        subbands: int = 16,
    ) -> str:
        """A whole group with everything that is made of it, all made `days_old` days before `NOW`."""
        name = group_id(start)
        made = NOW - timedelta(days=days_old)
        self._raw(name, start, subbands, made)
        ms = self.root.ms(name)
        (ms / "ANTENNA").mkdir(parents=True)
        (ms / "empty").mkdir()
        (ms / "table.dat").write_bytes(random.Random(name).randbytes(20_000))
        (ms / "ANTENNA" / "table.f0").write_bytes(b"antennas" * 100)
        (ms / ".snakemake_timestamp").touch()
        files.write_json(self.root.ms_sidecar(name), {"group": name, "made": {"inputs": {}}})
        files.write_json(
            self.root.calibrator(name), {"group": name, "calibrator": {"name": "J0834+5534"} if calibrator else None}
        )
        if calibrator:
            self.set(name, start)
        self.stamp(made, ms, self.root.ms_sidecar(name), self.root.calibration(name), self.root.manifest(name))
        if image:
            self.image(name, made)
        log = self.root.log(name, "convert")
        log.parent.mkdir(parents=True)
        log.write_text("converted\n")
        attempt(self.root, name, "convert")
        self.stamp(made, log.parent)
        return name

    def _raw(self, name: str, start: datetime, subbands: int, made: datetime) -> None:
        listed = {}
        for number in range(16):
            if number >= subbands:
                listed[f"{number:02d}"] = dict.fromkeys(("path", "size", "mtime_ns", "reason")) | {"state": "missing"}
                continue
            path = self.root.incoming / str(RawName(start, number))
            path.write_bytes(random.Random(f"{name}{number}").randbytes(1000))
            self.stamp(made, path)
            status = path.stat()
            relative = str(path.relative_to(self.root.root))
            listed[f"{number:02d}"] = {
                "path": relative,
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "state": "good",
                "reason": None,
            }
        manifest = {
            "group": name,
            "state": "complete" if subbands == 16 else "incomplete",
            "reason": None,
            "start_jd": (start.timestamp() + _INTEGRATION_S / 2) / 86400 + 2440587.5,
            "declination_deg": 54.57,
            "integrations": 24,
            "integration_s": _INTEGRATION_S,
            "channels": 48,
            "subbands": listed,
            "duplicates": [],
        }
        files.write_json(self.root.manifest(name), manifest)

    def set(self, name: str, start: datetime) -> None:
        """A set of caltables."""
        folder = self.root.calibration(name)
        for table in ("delay.cal", "bandpass.cal", "gain.cal"):
            (folder / table).mkdir(parents=True)
            (folder / table / "table.dat").write_bytes(random.Random(name + table).randbytes(3000))
            (folder / table / ".snakemake_timestamp").touch()
        observed = start + timedelta(seconds=155)
        content = {
            "group": name,
            "calibrator": "J0834+5534",
            "observed_utc": observed.isoformat(),
            "valid_from": (observed - timedelta(hours=3)).isoformat(),
            "valid_until": (observed + timedelta(hours=3)).isoformat(),
            "tables": ["delay.cal", "bandpass.cal", "gain.cal"],
            "quality": {"passed": True, "reasons": []},
            "declination_deg": 54.57,
        }
        files.write_json(self.root.set(name), content)

    def selection(self, name: str) -> dict[str, Any]:
        """What the set of now gives."""
        registry = Registry(self.root, self.settings.calibration)
        return select(self.root.manifest(name), reimaging.serving_sets(registry, name), registry)

    def image(self, name: str, made: datetime) -> None:
        """The group's image, with the sets of now."""
        selection = self.selection(name)
        files.write_json(self.root.image(name, "selection.json"), selection)
        for product in ("image.fits", "noise.fits", "pb.fits"):
            self.root.image(name, product).write_bytes(fits_bytes(name + product))
        self.root.image(name, "png").write_bytes(b"png")
        kept = {key: selection[key] for key in ("set", "verdict", "age_hours")}
        files.write_json(self.root.image(name, "json"), {"group": name, **kept, "quality": "clean"})
        products = ("image.fits", "noise.fits", "pb.fits", "png", "json", "selection.json")
        self.stamp(made, *(self.root.image(name, product) for product in products))

    def mosaic(self, *groups: str, made: datetime | None = None) -> str:
        """The mosaic of the groups' window; just newer than their images."""
        window = window_of(groups[0], self.settings.mosaic.window_minutes)
        images = [str(self.root.image(name).relative_to(self.root.root)) for name in groups]
        path = self.root.mosaic(window)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fits_bytes(window))
        files.write_json(
            self.root.mosaic(window, "json"),
            {"window": window, "groups": [*groups], "made": {"inputs": {"images": images}}},
        )
        newest = max(self.root.image(name).stat().st_mtime for name in groups) + 60
        self.stamp(made or datetime.fromtimestamp(newest, UTC), path, self.root.mosaic(window, "json"))
        return window

    def hour(self, start: datetime, groups: int = 3, **options: Any) -> list[str]:
        """Some groups of one window, the first with a calibrator, and their mosaic."""
        names = []
        for number in range(groups):
            begin = start + timedelta(seconds=309 * number)
            names.append(self.group(begin, calibrator=number == 0, **options))
        self.mosaic(*names)
        return names

    @staticmethod
    def stamp(when: datetime, *paths: Path) -> None:
        """Set the times of files and trees."""
        for path in paths:
            for each in (*path.rglob("*"), path):
                os.utime(each, (when.timestamp(), when.timestamp()))
