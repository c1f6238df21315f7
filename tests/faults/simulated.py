"""`contimg run` under a simulated clock: python -m faults.simulated FOLDER RATE ARGUMENTS…

FOLDER/clock.json says what time it was when, and the clock runs RATE times as fast; a number of seconds in
FOLDER/clock.offset puts it forward or back. With `--played` jobs are played, and take simulated time, too.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

from contimg.core.config import load
from contimg.core.errors import ContimgError
from contimg.core.release import CHECKOUT
from contimg.execute import snakemake
from contimg.runner import loop

from . import played_jobs


class SimulatedClock:
    """The clock of a site; whoever makes one sees the same time."""

    def __init__(self, folder: Path, rate: float, start: float | None = None, *, played: bool = False) -> None:
        self.rate = 1.0 if played else rate
        """Of the wall clock against the steady one."""
        self._speed, self._steady_speed = rate, rate if played else 1.0
        self._offset = folder / "clock.offset"
        origin = folder / "clock.json"
        if not origin.exists():
            origin.write_text(json.dumps([time.time(), start or time.time()]))
        self._real, self._start = json.loads(origin.read_text())

    def now(self) -> float:
        """Simulated Unix time (s)."""
        try:
            offset = float(self._offset.read_text())
        except (FileNotFoundError, ValueError):
            offset = 0.0
        return self._start + self._speed * (time.time() - self._real) + offset

    def steady(self) -> float:
        """Seconds that jobs take: real ones, where they are real."""
        return time.monotonic() * self._steady_speed

    def put(self, seconds: float) -> None:
        """Put the clock forward, or back."""
        self._offset.write_text(str(seconds))


def main() -> int:
    """Run the runner of a folder."""
    folder, rate, played = Path(sys.argv[1]), float(sys.argv[2]), "--played" in sys.argv
    if played:
        snakemake._run = played_jobs.call  # type: ignore[assignment]
        snakemake.Snakemake.warm = lambda *_: None  # type: ignore[method-assign]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in loop.JOB_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return loop.run(
            CHECKOUT,
            lambda: load(folder / "config.yaml", {}),
            folder / "config.yaml",
            once="--once" in sys.argv,
            clock=SimulatedClock(folder, rate, played=played),
        )
    except ContimgError as error:
        print(f"contimg: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
