"""Paths of the service on a host, its units with these paths, and the two releases that it can have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from contimg.core import config
from contimg.core.errors import ConfigError, InstallationError
from contimg.core.release import CHECKOUT

UNITS = (
    "contimg.service",
    "contimg@.service",
    "contimg-serve.socket",
    "contimg-serve.service",
    "contimg-serve@.service",
    "contimg-check@.service",
    "contimg-once.service",
    "contimg-once.timer",
)
"""Units in `deploy/`: the streaming runner and the HTTP service, each a name and a template for the two releases that
can be installed; checks of a release; the timer that takes the runner's place."""
COLOURS = ("blue", "green")
"""Names of the two releases that can be installed at the same time."""
_PACKAGED = {"contimg": "/opt/contimg/.venv/bin/contimg", "data_root": "/data/contimg", "settings": "/etc/contimg"}
"""Paths that the packaged units name."""
_LISTEN = "127.0.0.1:8410"
"""Address that the packaged socket names."""


@dataclass(frozen=True)
class HostPaths:
    """Paths on the host.

    Attributes
    ----------
    contimg
        The `contimg` command that the units start.
    data_root
        Folder of the data, made if it is missing.
    settings
        Folder of the settings and secrets.
    units
        Folder of systemd's units.
    user
        System user and group that the units run as.
    """

    contimg: Path
    data_root: Path
    settings: Path = Path("/etc/contimg")
    units: Path = Path("/etc/systemd/system")
    user: str = "contimg"

    @classmethod
    def installed(cls, contimg: Path) -> HostPaths:
        """Site of an installation at the standard paths.

        Raises
        ------
        InstallationError
            If there is no installation, or its settings are invalid.
        """
        try:
            return cls(contimg, config.load(cls.settings / "config.yaml", {}).data_root)
        except ConfigError as error:
            raise InstallationError(f"{error}; contimg install puts the service in place") from error

    @property
    def config(self) -> Path:
        """Path of the settings file."""
        return self.settings / "config.yaml"

    def release(self, colour: str) -> Path:
        """Link to the environment of a colour's release."""
        return self.settings / "releases" / colour

    @property
    def enabled(self) -> str:
        """Colour that starts at boot; blue before the first installation."""
        wanted = (self.units / "contimg.service.wants" / f"contimg@{colour}.service" for colour in COLOURS)
        return next((colour for colour, link in zip(COLOURS, wanted, strict=True) if link.is_symlink()), COLOURS[0])

    @property
    def record(self) -> Path:
        """Path of the installation's record."""
        return self.settings / "installed.json"


def unit_text(unit: str, site: HostPaths) -> str:
    """Text of a unit in `deploy/`, with this site's paths and user."""
    text = (CHECKOUT / "deploy" / unit).read_text("utf-8")
    for place, packaged in _PACKAGED.items():
        text = text.replace(packaged, str(getattr(site, place)))
    if unit.endswith(".socket") and site.config.exists():
        text = text.replace(_LISTEN, listen_address(site))
    return re.sub(r"^(User|Group)=contimg$", rf"\1={site.user}", text, flags=re.M)


def listen_address(site: HostPaths) -> str:
    """Address of the HTTP service, as a socket unit names it.

    Raises
    ------
    InstallationError
        If the settings cannot be read.
    """
    try:
        service = config.load(site.config, {}, data_root=str(site.data_root)).service
    except ConfigError as error:
        raise InstallationError(f"{site.config}: {error}; mend it and install again") from error
    return f"[{service.host}]:{service.port}" if ":" in service.host else f"{service.host}:{service.port}"


def units_of(colour: str) -> tuple[str, str]:
    """Units of a colour that start with contimg.service and contimg-serve.service."""
    return f"contimg@{colour}.service", f"contimg-serve@{colour}.service"
