"""Outputs of a job: written in tmpfs or beside their places, and moved into place when all of them are whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from contimg.core import files
from contimg.core.errors import MissingOutputError

SIDECAR = "sidecar"
"""Name of the output with the step's result and its provenance; `unit/sidecar` for a further unit."""


@dataclass(frozen=True)
class Outputs:
    """Paths of a job's outputs, by name.

    Attributes
    ----------
    final
        Final paths.
    work
        Paths to which the step writes.
    parts
        Paths of the whole outputs before the move: beside the final ones, on the same file system.
    """

    final: Mapping[str, Path]
    work: SimpleNamespace
    parts: Mapping[str, Path]

    def finish(self) -> None:
        """Move staged outputs beside their places and sync all to disk; slow, hence done by the step's process.

        Raises
        ------
        MissingOutputError
            If the step did not write an output.
        OSError
            If an output cannot be moved or synced.
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
                files.move_across(written, part)
            files.sync(part)

    def place(self) -> None:
        """Move the outputs into place, sidecars last, the job's own at the very end, as it stands for the others."""
        for name in sorted(self.final, key=lambda name: (_is_sidecar(name), name == SIDECAR)):
            files.move(self.parts[name], self.final[name])


def _is_sidecar(name: str) -> bool:
    return name.rpartition("/")[2] == SIDECAR


@contextlib.contextmanager
def workspace(final: SimpleNamespace, room: Path | None, staged: set[str]) -> Iterator[Outputs]:
    """Temporary paths for the outputs, `staged` ones in the tmpfs folder `room`; leftovers are removed at the end."""
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
