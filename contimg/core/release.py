"""The release that runs: its version, commit and build date, the folder of its workflow files, its deployment."""

from __future__ import annotations

import json
import logging
from importlib.resources import files as package_files
from pathlib import Path

from contimg import __version__
from contimg.core import files

log = logging.getLogger(__name__)

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


class DeploymentWatch:
    """Outcome of the last deployment, by its state file beside the settings.

    Parameters
    ----------
    settings
        Settings file.
    """

    def __init__(self, settings: Path) -> None:
        self._path = settings.with_name(DEPLOYMENT)
        self._failed = self._unread = ""

    def failed(self) -> str:
        """Release that stays in use though its deployment failed, with the reason; empty without one.

        A state file that cannot be read is logged, once, and the answer stays as it was.
        """
        unread = ""
        try:
            content = files.read_json(self._path)
            failed = content["phase"] == "done" and content["reason"]
            self._failed = f"{content['release']}: {content['reason']}" if failed else ""
        except FileNotFoundError:
            self._failed = ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            unread = f"{self._path}: cannot be read ({error}); whether the last deployment failed is not known"
            if unread != self._unread:
                log.warning(unread)
        self._unread = unread
        return self._failed
