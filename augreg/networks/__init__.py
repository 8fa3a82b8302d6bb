"""Networks that predict a map from two images, their losses and their files."""

from augreg import _torch  # noqa: F401  # before whatever imports torch
from augreg.networks.architectures.critic import Critic
from augreg.networks.architectures.encoder import SiameseEncoder, StackedEncoder
from augreg.networks.architectures.flownet import FlowNet, FlowNetC, FlowNetS, seeded_network
from augreg.networks.architectures.localnet import LocalNet
from augreg.networks.architectures.marker import Committee, Marker
from augreg.networks.architectures.patchnet import PatchNet
from augreg.networks.architectures.regnet import RegNet
from augreg.networks.architectures.unet import UNet
from augreg.networks.catalogue import ARCHITECTURES, coarsest_cells, network_of
from augreg.networks.described import DESCRIPTORS, Described, described_channels
from augreg.networks.files import NetworkFile, read_network, write_network
from augreg.networks.heads import AffineFlow, Antisymmetric, Cascade, VelocityFlow
from augreg.networks.losses.affine_free import affine_free
from augreg.networks.losses.descriptors import edge_difference, self_similarity, self_similarity_difference
from augreg.networks.losses.flows import bending, curvature, diffusion, end_point_error, multiscale_loss, roughness
from augreg.networks.losses.information import mutual_information_loss
from augreg.networks.losses.likeness import Similarity, local_correlation, mean_squared_difference
from augreg.networks.losses.overlap import overlap_loss
from augreg.networks.losses.velocities import velocity_loss
from augreg.networks.maps import AffineMap, Composed, Displacement, Map, Velocity
from augreg.networks.marked import Marked, MarkedMaps, Moments
from augreg.networks.network import Network, normalised, seeded
from augreg.networks.predictor import Predictor
from augreg.networks.registration import FlowRegistration
from augreg.networks.scales import AtScale
from augreg.networks.steering import Steered, coupled_matching
from augreg.networks.warping import warped
from augreg.networks.wrappers.refined import RefinedFlow
from augreg.networks.wrappers.symmetric import SymmetricFlow
from augreg.networks.wrappers.tiled import Tiled
from augreg.tensors import flow_to_displacement, image_to_tensor

__all__ = [
    "ARCHITECTURES",
    "DESCRIPTORS",
    "AffineFlow",
    "AffineMap",
    "Antisymmetric",
    "AtScale",
    "Cascade",
    "Committee",
    "Composed",
    "Critic",
    "Described",
    "Displacement",
    "FlowNet",
    "FlowNetC",
    "FlowNetS",
    "FlowRegistration",
    "LocalNet",
    "Map",
    "Marked",
    "MarkedMaps",
    "Marker",
    "Moments",
    "Network",
    "NetworkFile",
    "PatchNet",
    "Predictor",
    "RefinedFlow",
    "RegNet",
    "SiameseEncoder",
    "Similarity",
    "StackedEncoder",
    "Steered",
    "SymmetricFlow",
    "Tiled",
    "UNet",
    "Velocity",
    "VelocityFlow",
    "affine_free",
    "bending",
    "coarsest_cells",
    "coupled_matching",
    "curvature",
    "described_channels",
    "diffusion",
    "edge_difference",
    "end_point_error",
    "flow_to_displacement",
    "image_to_tensor",
    "local_correlation",
    "mean_squared_difference",
    "multiscale_loss",
    "mutual_information_loss",
    "network_of",
    "normalised",
    "overlap_loss",
    "read_network",
    "roughness",
    "seeded",
    "seeded_network",
    "self_similarity",
    "self_similarity_difference",
    "velocity_loss",
    "warped",
    "write_network",
]
