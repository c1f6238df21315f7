"""Live progress of a process that makes a known number of like things: how many, and the time left."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Count:
    """What is counted.

    Attributes
    ----------
    what
        What the process does.
    things, total
        What they are, and how many there will be.
    done
        Tells how many there are; part of one counts as such.
    typical_s
        What the whole usually takes (s), until the first one has shown how long it takes now.
    """

    what: str
    things: str
    total: int
    done: Callable[[], float]
    typical_s: float

    def follow(self, process: subprocess.Popen[bytes]) -> int:
        """Show progress until the process ends; returns its exit code."""
        console = Console(highlight=False)
        began = time.monotonic()
        if console.is_terminal:
            with Live(console=console, refresh_per_second=4) as live:
                while process.poll() is None:
                    live.update(self._line(time.monotonic() - began))
                    time.sleep(_INTERVAL_S)
                live.update(self._line(time.monotonic() - began))
            return process.returncode
        told = -1
        while True:
            code = process.poll()
            if int(self.done()) > told:
                told = int(self.done())
                console.print(self._line(time.monotonic() - began), soft_wrap=True)
            if code is not None:
                return code
            time.sleep(_INTERVAL_S)

    def _line(self, spent_s: float) -> Text:
        done = self.done()
        return Text(
            f"{self.what}: {int(done)} of {self.total} {self.things}, {spent_s:.0f} s, {self._left(spent_s, done)}"
        )

    def _left(self, spent_s: float, done: float) -> str:
        """How long the rest will take, at the pace so far."""
        if done >= 1:
            return f"about {spent_s * (self.total - done) / done:.0f} s left"
        return f"about {self.typical_s - spent_s:.0f} s left" if spent_s < self.typical_s else "longer than usual"
