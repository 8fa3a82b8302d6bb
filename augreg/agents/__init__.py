"""Registration by agents that move step by step (after Ma et al., MICCAI 2017): views, networks, learners, and their use."""

from augreg import _torch  # noqa: F401  # before whatever imports torch
from augreg.agents.files import AgentFile, is_agent, read_agent, write_agent
from augreg.agents.learners import STEPS, AdvantageLearner, DoubleQLearner
from augreg.agents.lessons import Jitter, Lesson, any_contrast, gamma_and_noise
from augreg.agents.network import QNet
from augreg.agents.pairs import Known, Offsets, PosePairs, from_pair, from_truth, gains, view_of
from augreg.agents.registration import AgentRegistration, Judge
from augreg.agents.view import View

__all__ = [
    "STEPS",
    "AdvantageLearner",
    "AgentFile",
    "AgentRegistration",
    "DoubleQLearner",
    "Jitter",
    "Judge",
    "Known",
    "Lesson",
    "Offsets",
    "PosePairs",
    "QNet",
    "View",
    "any_contrast",
    "from_pair",
    "from_truth",
    "gains",
    "gamma_and_noise",
    "is_agent",
    "read_agent",
    "view_of",
    "write_agent",
]
