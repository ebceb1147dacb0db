"""Durations and sizes as people say them."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h 5 min`` or ``2 days 3 h``."""
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min"
    return f"{days} day{'s'[: days != 1]} {hours % 24} h"


def format_size(n_bytes: int) -> str:
    """``512 bytes``, ``3.1 KB``, ``20 MB`` or ``1.5 GB``, in powers of 1000."""
    if n_bytes < 1000:
        return f"{n_bytes} byte{'s'[: n_bytes != 1]}"
    size, unit = n_bytes / 1000, "KB"
    for larger in ("MB", "GB", "TB"):
        if size >= 999.5:
            size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"
