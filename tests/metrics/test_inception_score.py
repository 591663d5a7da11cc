from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from advnets.errors import DataError, UsageError
from advnets.metrics.inception_score import inception_score
from advnets.metrics.validation import shuffle_by_content


def draw(n: int, classes: int, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(n, classes, generator=torch.Generator().manual_seed(0)) * scale


def by_scipy(logits: torch.Tensor, splits: int) -> list[float]:
    """The definition, by scipy's relative entropy of each image."""
    parts = np.split(softmax(logits.double().numpy(), axis=1), splits)
    return [math.exp(entropy(p, p.mean(0, keepdims=True), axis=1).mean()) for p in parts]


@pytest.mark.parametrize("splits", [1, 4])
def test_it_is_the_definition(splits):
    logits = draw(400, 10)
    scores = by_scipy(shuffle_by_content(logits), splits)
    found = inception_score(logits, splits=splits)
    assert found.mean == pytest.approx(np.mean(scores), rel=1e-9)
    assert found.std == pytest.approx(np.std(scores), rel=1e-9, abs=1e-12)
    assert (found.splits, found.n) == (splits, 400)


def test_torchmetrics_computes_the_same(peer, monkeypatch):
    logits = draw(500, 10)
    with pytest.warns(UserWarning, match="save all extracted features"):
        theirs = peer("torchmetrics.image.inception").InceptionScore(torch.nn.Identity(), splits=5)
    theirs.features.append(shuffle_by_content(logits))
    theirs._update_count = 1
    monkeypatch.setattr(torch, "randperm", torch.arange)
    mean, deviation = theirs.compute()
    found = inception_score(logits, splits=5)
    assert found.mean == pytest.approx(float(mean), rel=1e-6)
    assert found.std == pytest.approx(float(deviation) * math.sqrt(4 / 5), rel=1e-6)


def test_torch_fidelity_computes_the_same(fidelity):
    logits = draw(500, 10)
    theirs = fidelity("metric_isc").isc_features_to_metric(
        shuffle_by_content(logits), 10, shuffle=False
    )
    found = inception_score(logits)
    assert found.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert found.std == pytest.approx(theirs["inception_score_std"], rel=1e-6)


def test_its_ends_are_1_and_the_number_of_classes():
    """1 where every image is judged alike; the number of classes where each is, surely, of one
    and all come as often; logits so far apart that probabilities are 0 do no harm."""
    assert inception_score(torch.ones(200, 7)).mean == pytest.approx(1, abs=1e-12)
    sure = 1e6 * torch.eye(7).repeat(20, 1)
    assert inception_score(sure, splits=1).mean == pytest.approx(7, rel=1e-12)
    assert inception_score(sure[::7], splits=1).mean == pytest.approx(1, abs=1e-12)


def test_order_and_batches_do_not_matter():
    logits = draw(230, 5)
    batches = torch.cat(list(reversed(logits.split(9))))
    assert inception_score(logits) == inception_score(logits.flip(0)) == inception_score(batches)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(DataError, match=r"class logits have shape .*; expected .* at least 200"):
        inception_score(torch.zeros(199, 3))  # an image a split has a score of 1, whatever it is
    with pytest.raises(DataError, match="class logits hold numbers that are not finite"):
        inception_score(torch.full((200, 3), math.inf))
    with pytest.raises(UsageError, match="0 splits were requested; give at least 1"):
        inception_score(torch.zeros(5, 3), splits=0)
