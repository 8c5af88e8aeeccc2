"""Clusters of equal size, by spherical k-means with a balanced assignment.

Legend: N items, C clusters, P features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ROUNDS = 3


def balanced(features_NP: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Cluster of each item, [N]; sizes differ by at most one. The same seed gives the same clusters.

    Each round solves the assignment problem exactly (Jonker and Volgenant 1987), as CMoE does
    (arXiv 2502.04416, section 3.2), and moves the centres.
    """
    directions_NP = F.normalize(features_NP, dim=1)
    centres_CP = _spread_out(directions_NP, clusters, seed)
    places_N = torch.arange(len(features_NP)) % clusters  # one column for every place in a cluster
    labels_N = places_N
    for _ in range(ROUNDS if clusters > 1 else 0):
        gain_NN = (directions_NP @ centres_CP.T)[:, places_N]
        _, columns = linear_sum_assignment(gain_NN.numpy(), maximize=True)
        labels_N = places_N[torch.from_numpy(columns)]
        sums_CP = torch.zeros_like(centres_CP).index_add(0, labels_N, directions_NP)
        centres_CP = F.normalize(sums_CP, dim=1)
    return labels_N


def _spread_out(directions_NP: Tensor, clusters: int, seed: int) -> Tensor:
    """Centres that lie far apart: each next one is the item least like those taken (Gonzalez 1985)."""
    generator = torch.Generator().manual_seed(seed)
    taken = [int(torch.randint(len(directions_NP), (1,), generator=generator))]
    nearest_N = directions_NP @ directions_NP[taken[0]]
    for _ in range(clusters - 1):
        taken.append(int(nearest_N.argmin()))
        nearest_N = torch.maximum(nearest_N, directions_NP @ directions_NP[taken[-1]])
    return directions_NP[taken]
