"""Fast registration by linear programming (after Kybic and Borovec, MICCAI 2018)."""

from augreg.keypoints.superpixels import superpixel_classes
from augreg.lp.register import LPRegistration

__all__ = ["LPRegistration", "superpixel_classes"]
