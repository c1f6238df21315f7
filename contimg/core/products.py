"""Products: every file and folder that the chain makes, declared once.

Paths, rules, inventory, retention, archive, backup, audit and cleanup read this table; a new product is one line here
and the name of it in the stage that makes it (`contimg.core.stages`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Purpose of a product."""

    DATA = "data"
    """Result of a stage."""
    PICTURE = "picture"
    """Quick look at a result."""
    SIDECAR = "sidecar"
    """JSON that stands for a whole product: provenance and quality. It is written last and outlives its product."""
    RECORD = "record"
    """JSON that decides what follows; a result by itself."""


class BackupRule(StrEnum):
    """Place of a product in the snapshots of a backup."""

    RECENT = "recent"
    """While it was written within `backup.recent_days`."""
    SET = "set"
    """With its calibration set: while that is recent or in use."""


@dataclass(frozen=True)
class Product:
    """File or folder of a group, a window or the data root.

    Attributes
    ----------
    path
        Relative to the data root, with {date} and {group} or {window}.
    directory
        Whether it is a folder, as CASA's tables are.
    archive
        Kind of the bundle in which it goes to the archive and leaves the disks; empty: it stays.
    backup
        When it is in a snapshot; None: it can be made again from raw data.
    beside
        Whether it is moved into place beside its sidecar by the job, and Snakemake knows nothing of it.
    optional
        Whether its stage may end well without it, or earlier versions made the product without it.
    """

    name: str
    path: str
    role: Role
    directory: bool = False
    archive: str = ""
    backup: BackupRule | None = None
    beside: bool = False
    optional: bool = False

    @property
    def folder(self) -> str:
        """Folder of the data root that holds it."""
        return self.path.partition("/")[0]

    @property
    def suffix(self) -> str:
        """Name of the file after that of its group or window (`image.fits`), or in its folder (`set.json`)."""
        return self.path.rpartition("/")[2].replace("{group}.", "").replace("{window}.", "")

    @property
    def pattern(self) -> str:
        """Glob pattern of all products of this name, from the data root."""
        return self.pattern_on("*")

    def pattern_on(self, date: str) -> str:
        """Glob pattern of the products of this name on a UTC day (`YYYY-MM-DD`)."""
        return self.path.format(date=date, group="*", window="*")


PRODUCTS: dict[str, Product] = {
    product.name: product
    for product in (
        Product("manifest", "groups/{group}.json", Role.RECORD, backup=BackupRule.RECENT),
        Product("calibrator", "calibration/{date}/{group}/calibrator.json", Role.RECORD, backup=BackupRule.RECENT),
        Product("ms", "ms/{date}/{group}.ms", Role.DATA, directory=True, archive="ms"),
        Product("ms_sidecar", "ms/{date}/{group}.json", Role.SIDECAR, backup=BackupRule.RECENT),
        Product("set", "calibration/{date}/{group}/set.json", Role.SIDECAR, backup=BackupRule.SET),
        Product("delay", "calibration/{date}/{group}/delay.cal", Role.DATA, True, backup=BackupRule.SET, beside=True),
        Product(
            "bandpass", "calibration/{date}/{group}/bandpass.cal", Role.DATA, True, backup=BackupRule.SET, beside=True
        ),
        Product("gain", "calibration/{date}/{group}/gain.cal", Role.DATA, True, backup=BackupRule.SET, beside=True),
        Product("set_png", "calibration/{date}/{group}/calibration.png", Role.PICTURE, backup=BackupRule.SET),
        Product("selection", "images/{date}/{group}.selection.json", Role.RECORD, backup=BackupRule.RECENT),
        Product("image_sidecar", "images/{date}/{group}.json", Role.SIDECAR, backup=BackupRule.RECENT),
        Product("image", "images/{date}/{group}.image.fits", Role.DATA, archive="image"),
        Product("image_noise", "images/{date}/{group}.noise.fits", Role.DATA, archive="image"),
        Product("image_pb", "images/{date}/{group}.pb.fits", Role.DATA, archive="image"),
        Product("image_png", "images/{date}/{group}.png", Role.PICTURE, archive="image"),
        Product(
            "image_validation", "images/{date}/{group}.validation.html", Role.PICTURE, archive="image", optional=True
        ),
        Product(
            "antennas", "images/{date}/{group}.antennas.json", Role.RECORD, backup=BackupRule.RECENT, optional=True
        ),
        Product("image_sources", "images/{date}/{group}.sources.csv", Role.DATA, archive="image", optional=True),
        Product("mosaic_sidecar", "mosaics/{date}/{window}.json", Role.SIDECAR, backup=BackupRule.RECENT),
        Product("mosaic", "mosaics/{date}/{window}.image.fits", Role.DATA),
        Product("mosaic_weight", "mosaics/{date}/{window}.weight.fits", Role.DATA),
        Product("mosaic_coverage", "mosaics/{date}/{window}.coverage.fits", Role.DATA),
        Product("mosaic_png", "mosaics/{date}/{window}.png", Role.PICTURE),
        Product("mosaic_validation", "mosaics/{date}/{window}.validation.html", Role.PICTURE, optional=True),
        Product("summary", "reports/summary.json", Role.DATA),
        Product("summary_html", "reports/summary.html", Role.PICTURE),
    )
}

RAW = "raw"
"""Kind of the archive's bundles that hold the raw files of a group, as its manifest lists them."""


def path(name: str) -> str:
    """Path template of a product, as rules name it."""
    return PRODUCTS[name].path


def archive_kinds() -> tuple[str, ...]:
    """Kinds of bundles in the archive, in the order of the chain; raw files last."""
    return (*dict.fromkeys(product.archive for product in PRODUCTS.values() if product.archive), RAW)


def archived(kind: str) -> tuple[Product, ...]:
    """Products that go to the archive together."""
    return tuple(product for product in PRODUCTS.values() if product.archive == kind)
