"""Networks that predict a displacement from two images, their losses and their files."""

from augreg.networks.architectures.flownet import ARCHITECTURES, FlowNet, FlowNetC, FlowNetS, network_of
from augreg.networks.files import NetworkFile, read_network, write_network
from augreg.networks.losses.flows import diffusion, end_point_error, multiscale_loss
from augreg.networks.losses.likeness import Similarity, local_correlation, mean_squared_difference
from augreg.networks.registration import FlowRegistration
from augreg.networks.tensors import flow_to_displacement, image_to_tensor, normalised
from augreg.networks.warping import warped
from augreg.networks.wrappers.refined import RefinedFlow
from augreg.networks.wrappers.symmetric import SymmetricFlow

__all__ = [
    "ARCHITECTURES",
    "FlowNet",
    "FlowNetC",
    "FlowNetS",
    "FlowRegistration",
    "NetworkFile",
    "RefinedFlow",
    "Similarity",
    "SymmetricFlow",
    "diffusion",
    "end_point_error",
    "flow_to_displacement",
    "image_to_tensor",
    "local_correlation",
    "mean_squared_difference",
    "multiscale_loss",
    "network_of",
    "normalised",
    "read_network",
    "warped",
    "write_network",
]
