"""The `contimg` command: one module a subcommand, each with `add` (its arguments) and `run` (its work).

Heavy imports stand inside `run`, so that `contimg --help` and light commands start at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from contimg.cli import (
    alerts,
    antennas,
    archive,
    audit,
    backup,
    beam,
    catalogue,
    check_cluster,
    check_data,
    config,
    demo,
    deploy,
    install,
    ledger,
    quarantine,
    report,
    reprocess,
    requests,
    restore,
    retain,
    run,
    serve,
    sets,
    simulate,
    status,
    trace,
    transits,
)
from contimg.core.errors import ContimgError
from contimg.core.processes import open_standard_streams
from contimg.core.release import version_line

COMMANDS = (
    simulate,
    demo,
    run,
    serve,
    status,
    trace,
    report,
    quarantine,
    ledger,
    audit,
    alerts,
    retain,
    archive,
    backup,
    restore,
    sets,
    reprocess,
    transits,
    requests,
    antennas,
    beam,
    catalogue,
    check_data,
    check_cluster,
    config,
    install,
    deploy,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; a `ContimgError`, or an error of a file system, is printed as one line: exit code 1."""
    open_standard_streams()
    parser = argparse.ArgumentParser(prog="contimg", description="Lights-out continuum imaging for DSA-110.")
    parser.add_argument("--version", action="version", version=version_line())
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        summary = (command.__doc__ or "").splitlines()[0]
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        command.add(subparser)
        subparser.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except ContimgError as error:
        print(f"contimg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # output piped into a program that has ended, such as head
        sys.stderr.close()
        return 0
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        print(f"contimg: {named}{error.strerror or error}; mend it and call again", file=sys.stderr)
        return 1
