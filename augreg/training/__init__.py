"""Learners, and the loop, checkpoints and teams of processes that serve them all; the pairs that networks learn from."""

from augreg import _torch  # noqa: F401  # before whatever imports torch
from augreg.networks.architectures.flownet import seeded_network
from augreg.networks.registration import FlowRegistration
from augreg.training.batches import (
    Batches,
    growing,
    held_out,
    in_both_directions,
    mirrored,
    mirrored_by_chance,
    pairs_from_generators,
    pairs_from_images,
    pairs_from_memory,
    pairs_from_model,
    pairs_from_shards,
    read_pairs,
    seen_differently,
    shard_spacing,
)
from augreg.training.checkpoints import CHECKPOINT
from augreg.training.contrasts import contrast_drawn, contrast_mapped
from augreg.training.jittered import jittered
from augreg.training.learner import WEIGHTS, Learner, descend, kept
from augreg.training.learners.flows import FlowLearner, pairs_error, train
from augreg.training.learners.judged import JudgedLearner
from augreg.training.logs import tensorboard_log
from augreg.training.looks import denser, occluded, shaded
from augreg.training.loop import TrainingOptions, TrainingState, learn
from augreg.training.machine import Machine, checked_device, torch_threads
from augreg.training.objectives import (
    Alike,
    Bending,
    InverseConsistent,
    LabelOverlap,
    Likeness,
    Objective,
    Smooth,
    Total,
    supervised,
    velocities,
)
from augreg.training.outlined import Outlined
from augreg.training.pace import Pace, pace_of
from augreg.training.patches import patches
from augreg.training.place import Place
from augreg.training.plausible import Plausible
from augreg.training.runs import SETTINGS, check_same, check_unused, claim, model_hash, pairs_hash, run_settings
from augreg.training.sights import Alignment, Fields, Sight, fields_from_pool, fields_of
from augreg.training.structures import one_structure
from augreg.training.tables import RealPairs, pairs_of_table, real_pairs
from augreg.training.targets import Matched, matched
from augreg.training.team import ALONE, Team, joined

__all__ = [
    "ALONE",
    "CHECKPOINT",
    "SETTINGS",
    "WEIGHTS",
    "Alignment",
    "Alike",
    "Batches",
    "Bending",
    "Fields",
    "FlowLearner",
    "FlowRegistration",
    "InverseConsistent",
    "JudgedLearner",
    "LabelOverlap",
    "Learner",
    "Likeness",
    "Machine",
    "Matched",
    "Objective",
    "Outlined",
    "Pace",
    "Place",
    "Plausible",
    "RealPairs",
    "Sight",
    "Smooth",
    "Team",
    "Total",
    "TrainingOptions",
    "TrainingState",
    "check_same",
    "check_unused",
    "checked_device",
    "claim",
    "contrast_drawn",
    "contrast_mapped",
    "denser",
    "descend",
    "fields_from_pool",
    "fields_of",
    "growing",
    "held_out",
    "in_both_directions",
    "jittered",
    "joined",
    "kept",
    "learn",
    "matched",
    "mirrored",
    "mirrored_by_chance",
    "model_hash",
    "occluded",
    "one_structure",
    "pace_of",
    "pairs_error",
    "pairs_from_generators",
    "pairs_from_images",
    "pairs_from_memory",
    "pairs_from_model",
    "pairs_from_shards",
    "pairs_hash",
    "pairs_of_table",
    "patches",
    "read_pairs",
    "real_pairs",
    "run_settings",
    "seeded_network",
    "seen_differently",
    "shaded",
    "shard_spacing",
    "supervised",
    "tensorboard_log",
    "torch_threads",
    "train",
    "velocities",
]
