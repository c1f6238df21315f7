"""Snakemake in processes forked from one that has imported it, which saves a second of each call.

The processes import this module and what it needs; so it needs little.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from forked import FORKED

CHECKOUT = Path(__file__).parents[2]
_LIMIT_S = 600.0


def called(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call Snakemake in the checkout, with an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = FORKED.Process(target=_main, args=(arguments, environment, out, err))
        process.start()
        process.join(_LIMIT_S)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(["snakemake", *arguments], _LIMIT_S, out.read_bytes(), err.read_bytes())
        assert process.exitcode is not None
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def _main(arguments: tuple[str, ...], environment: Mapping[str, str], out: Path, err: Path) -> None:
    """Be Snakemake, called from a shell."""
    from snakemake import cli

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(CHECKOUT)
    for path, number, flags in ((Path(os.devnull), 0, os.O_RDONLY), (out, 1, os.O_WRONLY), (err, 2, os.O_WRONLY)):
        os.dup2(os.open(path, flags | os.O_CREAT), number)
    sys.argv = ["snakemake", *arguments]
    cli.main(list(arguments))
