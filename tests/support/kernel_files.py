"""Files of /proc/self and of the control groups, as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

V2 = "30 24 0:27 / {} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
"""Mount of version 2."""


class Kernel:
    """Files of /proc/self and of the control groups."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        self.proc.mkdir()

    def mounted(self, *lines: str) -> None:
        (self.proc / "mountinfo").write_text("".join(f"{line.format(self.groups)}\n" for line in lines))

    def member(self, *lines: str) -> None:
        (self.proc / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def limit(self, path: str, content: str) -> None:
        file = self.groups / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
