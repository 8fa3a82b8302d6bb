"""Labelled images and what they say of another one: fusion of label maps that lie on one grid."""

from augreg.atlas.atlas import Atlas
from augreg.atlas.fusion import Fused, Fusion, LocalWeights, Majority, fuse
from augreg.atlas.joint import JointFusion
from augreg.atlas.staple import Staple

__all__ = ["Atlas", "Fused", "Fusion", "JointFusion", "LocalWeights", "Majority", "Staple", "fuse"]
