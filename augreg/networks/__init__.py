"""Networks that predict a displacement from two images, their loss and their files."""

from augreg.networks.files import NetworkFile, read_network, write_network
from augreg.networks.flownet import FlowNetS
from augreg.networks.loss import end_point_error, multiscale_loss
from augreg.networks.tensors import flow_to_displacement, image_to_tensor, normalised

__all__ = [
    "FlowNetS",
    "NetworkFile",
    "end_point_error",
    "flow_to_displacement",
    "image_to_tensor",
    "multiscale_loss",
    "normalised",
    "read_network",
    "write_network",
]
