"""The release that runs: its version, commit and build date, the folder of its workflow files, its deployment."""

from __future__ import annotations

import json
from importlib.resources import files as package_files
from pathlib import Path

from contimg import __version__
from contimg.core import files

_PACKAGE = Path(str(package_files("contimg")))
_PACKED = _PACKAGE / "data" / "workflow"
"""Copy of the workflow files inside an installed wheel (see setup.py)."""
CHECKOUT = _PACKED if (_PACKED / "Snakefile").is_file() else _PACKAGE.parent
"""Folder of the Snakefile, rules/, scripts/, config/ and profiles/."""
_BUILD = _PACKAGE / "data" / "build.json"
DEPLOYMENT = "deployment.json"
"""Name of the state file of the last deployment, beside the settings (`deploy.deployment`)."""


def commit() -> str:
    """Commit that the code was built or checked out from (40 hex digits); empty where neither is known."""
    if _BUILD.is_file():
        return str(json.loads(_BUILD.read_text("utf-8"))["commit"])
    git = CHECKOUT / ".git"
    try:
        if git.is_file():  # a worktree: its folder is elsewhere
            git = Path(git.read_text("utf-8").partition(":")[2].strip())
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref:"):
            return head
        reference = head.removeprefix("ref:").strip()
        common = git / "commondir"
        shared = git / common.read_text("utf-8").strip() if common.is_file() else git
        if (shared / reference).is_file():
            return (shared / reference).read_text("utf-8").strip()
        packed = (line.split() for line in (shared / "packed-refs").read_text("utf-8").splitlines())
        return next((words[0] for words in packed if words[1:] == [reference]), "")
    except OSError:
        return ""


def version_line() -> str:
    """Version, commit and build date, as `contimg --version` prints them."""
    if _BUILD.is_file():
        return (
            f"contimg {__version__} (commit {commit()[:12]}, built {json.loads(_BUILD.read_text('utf-8'))['date']})"
        )
    return f"contimg {__version__} (commit {commit()[:12] or 'unknown'}, from a checkout)"


def failed_deployment(settings: Path) -> str:
    """Release that stays in use though its deployment failed, with the reason; empty without one.

    Parameters
    ----------
    settings
        Settings file, beside which a deployment keeps its state.
    """
    try:
        content = files.read_json(settings.with_name(DEPLOYMENT))
        failed = content["phase"] == "done" and content["reason"]
        return f"{content['release']}: {content['reason']}" if failed else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
