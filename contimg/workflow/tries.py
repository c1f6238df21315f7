"""Failed tries of a product that is there already, counted so that Snakemake sees it as due until it is made again.

A job that was to replace a product and failed leaves the old one, which Snakemake takes for made from the new inputs.
The number of failed tries is a parameter of its rule: it differs then from the one that Snakemake has on record.
"""

from __future__ import annotations

from enum import Enum

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.core.stages import sidecar
from contimg.job.attempt_record import records


class Tries(Enum):
    """A count of which Snakemake keeps no record, as it keeps none of objects that are no plain values.

    Products of a data root that knew of no counts stay as they are.
    """

    NONE_FAILED = "none failed"


def failed_tries(root: DataRoot, rule: str, unit: str) -> int | Tries:
    """Tries of a rule for a group or window that have failed so far: those before the product and those since.

    The product's sidecar keeps the number of the former, so that it outlives their logs.
    """
    product = sidecar(rule)
    if product is None:
        return Tries.NONE_FAILED
    try:
        made = files.read_json(root.path(product.name, unit))["made"]
        before, since = int(made.get("failed_tries", 0)), str(made["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return Tries.NONE_FAILED  # it is not there, and due for that reason
    after = sum(
        record.started > since and not record.lives and record.outcome != "ok"
        for record in records(root, unit, (rule,))
    )
    return before + after or Tries.NONE_FAILED
