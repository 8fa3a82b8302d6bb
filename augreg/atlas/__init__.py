"""Labelled images and what they say of another one: banks of templates, propagation, fusion; the template in their middle."""

from augreg.atlas.atlas import Atlas
from augreg.atlas.bank import Choice, TemplateBank
from augreg.atlas.building import BankState, building
from augreg.atlas.fusion import Fused, Fusion, LocalWeights, Majority, fuse
from augreg.atlas.joint import JointFusion
from augreg.atlas.representatives import representatives
from augreg.atlas.segment import MultiAtlas, TemplateRegistration
from augreg.atlas.staple import Staple
from augreg.atlas.template import Template, template, template_rounds

__all__ = [
    "Atlas",
    "BankState",
    "Choice",
    "Fused",
    "Fusion",
    "JointFusion",
    "LocalWeights",
    "Majority",
    "MultiAtlas",
    "Staple",
    "Template",
    "TemplateBank",
    "TemplateRegistration",
    "building",
    "fuse",
    "representatives",
    "template",
    "template_rounds",
]
