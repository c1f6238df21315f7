"""Outputs of a job: written aside, in tmpfs or beside their places, and moved there when all of them are whole."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from contimg.core import files
from contimg.core.errors import MissingOutputError

SIDECAR = "sidecar"
"""Name of the output that holds what the step returned, with its provenance; of a further unit, `unit/sidecar`."""


@dataclass(frozen=True)
class Outputs:
    """Paths of a job's outputs, by name.

    Attributes
    ----------
    final
        Their places.
    work
        Where the step writes them.
    parts
        Where they are when they are whole: beside their places, on the same file system.
    """

    final: Mapping[str, Path]
    work: SimpleNamespace
    parts: Mapping[str, Path]

    def finish(self) -> None:
        """Bring what the step wrote beside its place and onto the disk; takes long, so the step's process does it.

        Raises
        ------
        MissingOutputError
            If the step did not write one of them.
        OSError
            If they cannot be copied or written.
        """
        for name, written in vars(self.work).items():
            if _is_sidecar(name):
                continue
            if not written.exists():
                raise MissingOutputError(
                    f"{self.final[name]}: the step ended without writing it; nothing was recorded as done"
                )
            part = self.parts[name]
            if part != written:
                (shutil.copytree if written.is_dir() else shutil.copyfile)(written, part)
            files.sync(part)

    def place(self) -> None:
        """Move them into place, the sidecars last, the job's own behind all: it stands for the others."""
        for name in sorted(self.final, key=lambda name: (_is_sidecar(name), name == SIDECAR)):
            files.move(self.parts[name], self.final[name])


def _is_sidecar(name: str) -> bool:
    return name.rpartition("/")[2] == SIDECAR


@contextlib.contextmanager
def workspace(final: SimpleNamespace, room: Path | None, staged: set[str]) -> Iterator[Outputs]:
    """Temporary paths for the outputs, `staged` ones in `room`; what is left of both at the end is removed."""
    parts = {name: files.part_path(path) for name, path in vars(final).items()}
    work = {name: room / path.name if room and name in staged else parts[name] for name, path in vars(final).items()}
    for part in parts.values():
        part.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield Outputs(vars(final), SimpleNamespace(**work), parts)
    finally:
        for part in parts.values():
            files.remove(part)
            for left in part.parent.glob(f"{part.name}-*"):  # scratch of a step that was killed
                files.remove(left)
        if room:
            files.remove(room)
