"""Played jobs: what a Snakemake call and its science do, without either, for streams of a thousand groups.

Played are the call itself, visibilities, gains and pixels, and the time that they take. Real are the supervised child
with its time limit, staging, whole outputs, attempt records, provenance, the choice of subbands, and the selection of
sets; and all that the runner does with them.
"""

from __future__ import annotations

import json
import os
import random
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from synthetic_root import fits_bytes

from contimg.convert import subbands
from contimg.core import files
from contimg.core.errors import ToolBrokenError, ToolFailedError
from contimg.core.paths import DataRoot, group_of, group_start
from contimg.core.products import Role
from contimg.core.stages import STAGES, Per
from contimg.ingest.manifest import load
from contimg.job import job
from contimg.sets import reimaging
from contimg.sets.registry import Registry
from contimg.sets.select import select

TAKES_S = (0.2, 0.6)
"""Length of a job (s), nearly all of it asleep."""
TROUBLE = "trouble.json"
"""File beside the data root: what is wrong with jobs now, by rule."""
PER_CALIBRATOR = 40
"""Groups of which one has a calibrator."""
SPACING_S = 31
"""From the start of a group to that of the next."""


class _Named(list[str]):
    """Named files and values, as Snakemake has them."""

    def __init__(self, **named: Any) -> None:
        super().__init__(named.values())
        self._named = named
        self.__dict__.update(named)

    def items(self) -> Any:
        return self._named.items()

    def get(self, name: str, default: Any = None) -> Any:
        return self._named.get(name, default)


def call(arguments: Sequence[str]) -> int:
    """Do what a call of Snakemake with these arguments does; returns its exit code."""
    arguments = list(arguments)
    targets = [Path(target) for target in arguments[arguments.index("--") + 1 :]]
    rules = arguments[arguments.index("--allowed-rules") + 1 : arguments.index("--")]
    config = yaml.safe_load(Path(arguments[arguments.index("--configfile") + 1]).read_text())
    groups = json.loads(next(one for one in arguments if one.startswith("groups=")).removeprefix("groups="))
    if STAGES[rules[-1]].per is Per.ROOT:
        return 0
    units = dict.fromkeys(map(group_of, targets))
    failed = [unit for unit in units if not all(_forked(rule, unit, config, groups) for rule in rules)]
    return int(bool(failed))


def _forked(rule: str, unit: str, config: dict[str, Any], groups: Sequence[str]) -> bool:
    """Run a job in a process of its own, as Snakemake runs a script; whether it worked."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            job.run(_snakemake(rule, unit, config, groups), lambda played: _step(rule, played, groups))
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:  # noqa: BLE001 — nothing may leave this process otherwise
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _snakemake(rule: str, unit: str, config: dict[str, Any], groups: Sequence[str]) -> Any:
    """What Snakemake gives to a script."""
    root = DataRoot(Path(config["data_root"]))
    stage = STAGES[rule]
    outputs = {
        "sidecar" if product.role is Role.SIDECAR else product.name: str(root.path(product.name, unit))
        for product in stage.products
        if not product.beside
    }
    images = [str(root.image(group)) for group in groups]
    return SimpleNamespace(
        rule=rule,
        config=config,
        wildcards=_Named(window=unit) if stage.per is Per.WINDOW else _Named(group=unit),
        input=_Named(images=images) if stage.per is Per.WINDOW else _Named(manifest=str(root.manifest(unit))),
        output=_Named(**outputs),
        params=_Named(),
        threads=1,
        resources=_Named(mem_mb=1500),
        log=[str(root.log(unit, rule))],
    )


def _step(rule: str, played: job.Job, groups: Sequence[str]) -> dict[str, Any]:
    """What a job makes: small files, and sidecars with all that is read of them."""
    unit, root = played.unit, DataRoot(played.settings.data_root)
    _trouble(rule, root)
    time.sleep(random.uniform(*TAKES_S))
    content = _content(rule, unit, root, played, groups)
    for product in STAGES[rule].products:
        path = vars(played.output).get(product.name)
        if path is None:
            continue
        if product.directory:
            path.mkdir(parents=True)
            (path / "table.dat").write_bytes(random.Random(unit).randbytes(3000))
        elif product.role is Role.RECORD:
            files.write_json(path, content)
        else:
            path.write_bytes(fits_bytes(unit, 16))
    return content


def _content(rule: str, unit: str, root: DataRoot, played: job.Job, groups: Sequence[str]) -> dict[str, Any]:
    """Content of a rule's sidecar or record."""
    if rule == "detect":
        found = round(group_start(unit).timestamp()) // SPACING_S % PER_CALIBRATOR == 0
        return {"group": unit, "calibrator": {"name": "J0834+5534"} if found else None}
    if rule == "convert":
        with ExitStack() as stack:
            good = subbands.opened(load(root.manifest(unit)), root.root, played.settings.ingest, stack).headers
            return {"group": unit, "missing_subbands": sorted({*range(16)} - good.keys())}
    if rule == "solve":
        start = group_start(unit)
        observed = {
            "observed_utc": start.isoformat(),
            "valid_from": (start - timedelta(hours=3)).isoformat(),
            "valid_until": (start + timedelta(hours=3)).isoformat(),
        }
        quality = {"passed": True, "reasons": []}
        return {"group": unit, "calibrator": "J0834+5534", **observed, "quality": quality, "declination_deg": 54.57}
    registry = Registry(root, played.settings.calibration)
    if rule == "select":
        return select(root.manifest(unit), reimaging.serving_sets(registry, unit), registry)
    if rule == "image":
        selection = files.read_json(root.image(unit, "selection.json"))
        kept = {key: selection[key] for key in ("set", "sets", "verdict", "age_hours", "interpolated")}
        return {"group": unit, **kept, "quality": "clean", "reasons": [], "centre": {"dec_deg": 54.57}}
    return {"window": unit, "groups": list(groups), "missing": [], "quality": "clean", "reasons": []}


def _trouble(rule: str, root: DataRoot) -> None:
    """Fail, where something is wrong with all jobs of a rule now."""
    try:
        troubles = json.loads((root.root.parent / TROUBLE).read_text())
    except (OSError, ValueError):
        return
    error = ERRORS.get(troubles.get(rule, ""))
    if error:
        raise error


ERRORS: dict[str, Exception] = {
    "broken tool": ToolBrokenError("a library: cannot be loaded; install it"),
    "failing tool": ToolFailedError("wsclean: ended with code 1; its log says why"),
    "read error": OSError(5, "Input/output error", "a raw file"),
    "read error in a library": KeyError(
        "Unable to synchronously open object (file read failed: errno = 116, error message = 'Stale file handle')"
    ),
    "quota": OSError(122, "Disk quota exceeded", "an output"),
    "no memory": MemoryError(),
}
