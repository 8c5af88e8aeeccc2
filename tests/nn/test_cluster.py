import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core.nn.cluster import balanced


@settings(max_examples=30)
@given(items=st.integers(1, 60), clusters=st.integers(1, 12), seed=st.integers(0, 5))
def test_sizes_differ_by_at_most_one(items, clusters, seed):
    features = torch.randn(items, 5, generator=torch.Generator().manual_seed(seed))
    sizes = torch.bincount(balanced(features, clusters, seed), minlength=clusters)
    assert sizes.sum() == items
    assert sizes.max() - sizes.min() <= 1


def test_separate_bundles_of_directions_are_found():
    torch.manual_seed(0)
    truth = torch.arange(40) % 4
    features = torch.eye(4)[truth] + 0.05 * torch.randn(40, 4)
    labels = balanced(features, 4)
    assert all(len(set(labels[truth == bundle].tolist())) == 1 for bundle in range(4))
