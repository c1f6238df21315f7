"""Layout of the pictures of the sky, for their makers and for those that cut the sky out of them."""

from __future__ import annotations

DPI = 110
SKY_MARGINS_INCHES = (0.95, 1.15, 0.7, 0.75)
"""Margins of the axes: left, right (colour bar), bottom, top."""
