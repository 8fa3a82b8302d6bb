"""Slow twins of label fusion: the definitions, one voxel at a time."""

import itertools

import numpy as np


def _at(values, x):
    return values[tuple(np.clip(x, 0, np.array(values.shape) - 1))]


def joint_weights(target, images, labels, x, radius, beta, alpha, search):
    """Labels and weights of joint fusion at a voxel; images (n, *shape)."""
    ndim = target.ndim
    offsets = [np.array(o) - radius for o in np.ndindex(*[2 * radius + 1] * ndim)]
    reach = [np.array(o) - search for o in np.ndindex(*[2 * search + 1] * ndim)]
    wanted = np.array([_at(target, np.array(x) + p) for p in offsets])
    named, patches = [], []
    for image, label in zip(images, labels, strict=True):
        trials = []
        for o in reach:
            y = np.array(x) + o
            if not ((y >= 0) & (y < target.shape)).all() or label[tuple(y)] < 0:
                continue
            d = np.abs(np.array([_at(image, y + p) for p in offsets]) - wanted)
            trials.append(((d**2).sum(), label[tuple(y)], d))
        _, rank, d = min(trials, key=lambda trial: trial[0])
        named.append(rank)
        patches.append(d)
    D = np.array(patches)
    M = (D @ D.T / D.shape[1]) ** beta
    M += alpha * np.trace(M) / len(M) * np.eye(len(M))
    w = np.linalg.solve(M, np.ones(len(M)))
    return named, w / w.sum()


def on_lattice(places, radius):
    """Those of the disputed voxels that have weights: of the lattice, and others with none of these in their patch."""
    ndim = len(places[0])
    some = {x for x in places if sum((d + 1) * i for d, i in enumerate(x)) % (2 * ndim + 1) == 0}
    return some | {x for x in places if not any(max(abs(np.subtract(x, y))) <= radius for y in some)}


def joint_support(known, weighed, labels, x, radius, own):
    """Support of every label that is named at a disputed voxel.

    known : labels and weights of every disputed one, by its index. weighed : those whose weights count
    """
    shape, n = labels.shape[1:], len(labels)

    def around(x, reach):
        return itertools.product(*(range(i - reach, i + reach + 1) for i in x))

    def average(y):
        return np.mean([known[z][1] for z in around(y, radius) if z in weighed], axis=0)

    sums = {}
    for y in around(x, 1):
        inside = tuple(int(i) for i in np.clip(y, 0, np.array(shape) - 1))
        if inside in known:
            votes = zip(known[inside][0], average(inside), strict=True)
        else:
            votes = [(max(labels[(i, *inside)] for i in range(n)), 1.0)]
        for label, weight in votes:
            sums[label] = sums.get(label, 0.0) + weight * (1 + own if y == tuple(x) else 1)
    named = known[tuple(x)][0]
    total = sum(max(0, sums[label]) for label in set(named))
    return {label: max(0, sums[label]) / total for label in named}


def staple(named, L, iterations, expected):
    """W (V, L) of STAPLE: every label at every voxel, for labels that some atlas names there."""
    V, n = named.shape
    W = np.zeros((V, L))
    for v, i in itertools.product(range(V), range(n)):
        W[v, named[v, i]] += 1 / n
    prior = W.sum(axis=0) / W.sum()
    for _ in range(iterations):
        theta = np.tile(expected * np.eye(L), (n, 1, 1))
        for i in range(n):
            for v in range(V):
                theta[i, named[v, i]] += W[v]
            theta[i] /= np.maximum(theta[i].sum(axis=0), 1e-12)
        for v in range(V):
            score = prior * np.prod([theta[i, named[v, i]] for i in range(n)], axis=0)
            score[[label for label in range(L) if label not in named[v]]] = 0
            W[v] = score / score.sum()
    return W


def expected_overlap(count, p, power, turns=50):
    """The label map whose expected overlap is greatest, one voxel at a time; p of a voxel: {label: support}, 0 is background."""
    found = [max(sorted(one), key=one.get) for one in p]
    for _ in range(turns):
        V = [sum(one.get(k, 0) for one in p) + sum(own == k for own in found) for k in range(count)]
        D = [2 * sum(one[k] for one, own in zip(p, found, strict=True) if own == k) / max(V[k], 1e-9) for k in range(count)]
        scale = np.mean(V)

        def best(one, V=V, D=D, scale=scale):
            gains = {k: 0 if k == 0 else (2 * one[k] - D[k]) / (V[k] / scale) ** power for k in sorted(one)}
            return max(gains, key=gains.get)

        before, found = found, [best(one) for one in p]
        if found == before:
            break
    return found
