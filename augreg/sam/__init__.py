"""Locality-aware statistical models of shape and appearance, fitted to a few images."""

from augreg.sam.annotations import dropped
from augreg.sam.contours import Contours, contours_correspond
from augreg.sam.correspondences import ByRegistration, Correspondences, Corresponding, FromContours, GivenLandmarks
from augreg.sam.curves import RankCurve, SizeCurve, rank_curve, size_curve
from augreg.sam.density import ShapeDensity, fit_density
from augreg.sam.evaluate import Evaluation, Measure, evaluate, find_landmarks
from augreg.sam.files import read_model, write_model
from augreg.sam.fit import fit_appearance_model, fit_corresponding
from augreg.sam.locality import Locality
from augreg.sam.maps import DisplacementMaps, LandmarkMaps, VelocityMaps
from augreg.sam.merges import Nested, WeightedSum
from augreg.sam.model import AppearanceModel, Coefficients
from augreg.sam.motion import Displacement, Velocity
from augreg.sam.posterior import Posterior
from augreg.sam.sampler import JointSampler, SchurSampler
from augreg.sam.selection import ScaleChoice, choose_scale
from augreg.sam.subspace import Subspace
from augreg.sam.tapers import TAPERS, Gaussian, Threshold, Wendland

__all__ = [
    "TAPERS",
    "AppearanceModel",
    "ByRegistration",
    "Coefficients",
    "Contours",
    "Correspondences",
    "Corresponding",
    "Displacement",
    "DisplacementMaps",
    "Evaluation",
    "FromContours",
    "Gaussian",
    "GivenLandmarks",
    "JointSampler",
    "LandmarkMaps",
    "Locality",
    "Measure",
    "Nested",
    "Posterior",
    "RankCurve",
    "ScaleChoice",
    "SchurSampler",
    "ShapeDensity",
    "SizeCurve",
    "Subspace",
    "Threshold",
    "Velocity",
    "VelocityMaps",
    "WeightedSum",
    "Wendland",
    "choose_scale",
    "contours_correspond",
    "dropped",
    "evaluate",
    "find_landmarks",
    "fit_appearance_model",
    "fit_corresponding",
    "fit_density",
    "rank_curve",
    "read_model",
    "size_curve",
    "write_model",
]
