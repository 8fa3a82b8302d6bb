"""Truths of real pairs that their label maps know."""

import numpy as np
import pytest
import torch

from augreg import Affine, metrics
from augreg.networks import warped
from augreg.synthesis import PairBatch
from augreg.training import RealPairs, matched

SHAPE, SPACING = (44, 36), (1.0, 1.5)


def labels(center, radii):
    places = np.moveaxis(np.indices(SHAPE), 0, -1)
    away = np.linalg.norm((places - center) / radii, axis=-1)
    return torch.from_numpy(np.where(away < 0.5, 2, np.where(away < 1, 1, 0)).astype(np.int32))[None, None]


def table(*moving):
    """A fixed ellipse of two structures, and others."""
    fixed = labels((20, 17), (12.0, 8.0))
    whole = PairBatch.without_truth(torch.zeros(len(moving), 1, *SHAPE), torch.zeros(len(moving), 1, *SHAPE))
    maps = torch.cat(moving)
    return RealPairs(whole.labelled(fixed.expand_as(maps).clone(), maps), SPACING)


def pieces():
    """The outer structure in three pieces far apart, the inner one gone."""
    found = torch.zeros(1, 1, *SHAPE, dtype=torch.int32)
    for a, b in ((2, 2), (2, 30), (38, 15)):
        found[..., a : a + 4, b : b + 4] = 1
    return found


def test_outlines_are_matched_and_the_way_back_leads_back():
    known = table(labels((24, 15), (9.0, 9.0)), labels((18, 20), (13.0, 6.0)))
    pairs, lost = matched(known)
    assert lost == ()
    assert pairs.spacing == SPACING
    found = pairs.pairs
    for number in (1, 2):
        fixed, moving = ((part == number).float() for part in (found.fixed_labels, found.moving_labels))
        before, after = ((fixed - seen).abs().sum() / fixed.sum() for seen in (moving, warped(moving, found.flow)))
        assert after < 0.2 < 0.3 < before
    returned = found.flow + warped(found.reverse, found.flow)
    inside = found.mask & (warped(found.reverse_mask.float(), found.flow) > 0.99)
    assert inside.float().mean() > 0.6
    assert returned.norm(dim=1, keepdim=True)[inside].max() < 0.15


def test_pairs_whose_outlines_cannot_be_matched_are_left_out():
    known = table(pieces(), labels((24, 15), (9.0, 9.0)))
    pairs, lost = matched(known)
    assert lost == (0,)
    assert torch.equal(pairs.pairs.moving_labels, known.pairs.moving_labels[1:])
    with pytest.raises(ValueError, match=r"targets: expected outlines that can be matched to a mean Dice of 0\.8, got none in 1"):
        matched(table(pieces()))
    # a method of one's own, and what it is told
    told = []

    def still(fixed, moving, *, fixed_labels, moving_labels):
        told.append(metrics.dice(fixed_labels, moving_labels)[1])
        return Affine.identity(2)

    assert matched(known, still, least=0.0).lost == ()
    assert told[0] == pytest.approx(0, abs=0.2) != told[1]
    with pytest.raises(ValueError, match="least: expected a Dice from 0 to 1, got 2"):
        matched(known, least=2)
    bare = RealPairs(known.pairs.labelled(None, None), SPACING)
    with pytest.raises(ValueError, match="targets: expected label maps of all pairs"):
        matched(bare)
