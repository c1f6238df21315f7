"""Live progress of a process with a known number of products: number made, and the time left."""

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
    """Progress counter of a process.

    Attributes
    ----------
    what
        Activity of the process, in words.
    things, total
        Name (plural) and total number of the products.
    done
        Function that returns the number made so far, with the fraction of an unfinished product.
    typical_s
        Typical run time (s) of the whole process, used until the first product is made.
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
        """Estimate of the time left at the rate so far, in words."""
        if done >= 1:
            return f"about {spent_s * (self.total - done) / done:.0f} s left"
        return f"about {self.typical_s - spent_s:.0f} s left" if spent_s < self.typical_s else "longer than usual"
