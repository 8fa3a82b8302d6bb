"""Registrations from corresponding points: at keypoints of any other registration, or on the outlines of label maps."""

from augreg.matching.at_keypoints import SplinedRegistration
from augreg.matching.shapes import ShapeRegistration
from augreg.matching.spline import splined

__all__ = ["ShapeRegistration", "SplinedRegistration", "splined"]
