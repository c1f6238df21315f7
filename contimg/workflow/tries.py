"""Failed tries of an existing product, counted to keep the product due for Snakemake until it is made again.

A failed job leaves the old product in place, which Snakemake takes for made from the new inputs. The number of failed
tries is a parameter of the rule: after a failure it differs from the number in Snakemake's record.
"""

from __future__ import annotations

from enum import Enum

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.core.stages import sidecar
from contimg.job.attempt_record import records


class Tries(Enum):
    """Count that Snakemake leaves out of its record, because it is no plain value.

    Products made before tries were counted therefore stay as they are.
    """

    NONE_FAILED = "none failed"


def failed_tries(root: DataRoot, rule: str, unit: str) -> int | Tries:
    """Number of failed tries of a rule for a group or window, before its product was made and since.

    The product's sidecar keeps the number of earlier tries, which therefore outlives their logs.
    """
    product = sidecar(rule)
    if product is None:
        return Tries.NONE_FAILED
    try:
        made = files.read_json(root.path(product.name, unit))["made"]
        before, since = int(made.get("failed_tries", 0)), str(made["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return Tries.NONE_FAILED  # without a product the rule is due anyway
    after = sum(
        record.started > since and not record.lives and record.outcome != "ok"
        for record in records(root, unit, (rule,))
    )
    return before + after or Tries.NONE_FAILED
