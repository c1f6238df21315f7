"""Thumbnails of images for the pages: small JPEGs, made once and cached, so that a page stays light."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from contimg.core.paths import DataRoot
from contimg.figures.layout import DPI, SKY_MARGINS_INCHES

_WIDTH_PX = 220
_KEPT = 256


def thumbnail(root: DataRoot, group: str) -> bytes | None:
    """JPEG thumbnail of a group's image; None without a picture."""
    path = root.image(group, "png")
    try:
        return _thumbnail(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, SyntaxError):  # damaged, or too small for the margins of a picture
        return None


@lru_cache(_KEPT)
def _thumbnail(path: Path, _: int) -> bytes:
    """JPEG thumbnail of the sky in a picture, cached by its modification time (ns)."""
    left, right, bottom, top = (round(DPI * margin) for margin in SKY_MARGINS_INCHES)
    with Image.open(path) as picture:
        sky = picture.crop((left, top, picture.width - right, picture.height - bottom))
    sky.thumbnail((_WIDTH_PX, _WIDTH_PX))
    content = io.BytesIO()
    sky.convert("RGB").save(content, "JPEG", quality=78)
    return content.getvalue()
