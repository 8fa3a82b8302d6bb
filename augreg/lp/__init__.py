"""Fast registration by linear programming (after Kybic and Borovec, MICCAI 2018)."""

from augreg.lp.register import LPRegistration
from augreg.lp.superpixels import superpixel_classes

__all__ = ["LPRegistration", "superpixel_classes"]
