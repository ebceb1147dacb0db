"""How long something takes, in words."""


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
