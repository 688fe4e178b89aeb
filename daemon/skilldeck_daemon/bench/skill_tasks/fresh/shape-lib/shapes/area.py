"""Areas of plane shapes."""

import math


def triangle(base: float, height: float) -> float:
    return base * height / 2


def circle(radius: float) -> float:
    return round(math.pi * radius**2, 2)


def sail(foot: float, luff: float) -> float:
    """With the roach, which adds eight hundredths."""
    return round(foot * luff / 2 * 1.08, 2)
