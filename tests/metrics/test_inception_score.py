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
    """Return the score by SciPy's relative entropy of each image."""
    parts = np.split(softmax(logits.double().numpy(), axis=1), splits)
    return [math.exp(entropy(p, p.mean(0, keepdims=True), axis=1).mean()) for p in parts]


@pytest.mark.parametrize("splits", [1, 4])
def test_the_score_equals_its_definition(splits):
    logits = draw(400, 10)
    scores = by_scipy(shuffle_by_content(logits), splits)
    result = inception_score(logits, splits=splits)
    assert result.mean == pytest.approx(np.mean(scores), rel=1e-9)
    assert result.std == pytest.approx(np.std(scores), rel=1e-9, abs=1e-12)
    assert (result.splits, result.n) == (splits, 400)


def test_the_score_equals_that_of_torchmetrics(peer, monkeypatch):
    logits = draw(500, 10)
    with pytest.warns(UserWarning, match="save all extracted features"):
        reference = peer("torchmetrics.image.inception").InceptionScore(
            torch.nn.Identity(), splits=5
        )
    reference.features.append(shuffle_by_content(logits))
    reference._update_count = 1
    monkeypatch.setattr(torch, "randperm", torch.arange)
    mean, deviation = reference.compute()
    result = inception_score(logits, splits=5)
    assert result.mean == pytest.approx(float(mean), rel=1e-6)
    assert result.std == pytest.approx(float(deviation) * math.sqrt(4 / 5), rel=1e-6)


def test_the_score_equals_that_of_torch_fidelity(fidelity):
    logits = draw(500, 10)
    reference = fidelity("metric_isc").isc_features_to_metric(
        shuffle_by_content(logits), 10, shuffle=False
    )
    result = inception_score(logits)
    assert result.mean == pytest.approx(reference["inception_score_mean"], rel=1e-6)
    assert result.std == pytest.approx(reference["inception_score_std"], rel=1e-6)


def test_the_score_is_between_1_and_the_number_of_classes():
    """1 if all images have equal predictions; the number of classes if predictions are certain and
    classes equally frequent, also where probabilities underflow to 0."""
    assert inception_score(torch.ones(200, 7)).mean == pytest.approx(1, abs=1e-12)
    sure = 1e6 * torch.eye(7).repeat(20, 1)
    assert inception_score(sure, splits=1).mean == pytest.approx(7, rel=1e-12)
    assert inception_score(sure[::7], splits=1).mean == pytest.approx(1, abs=1e-12)


def test_order_and_batches_do_not_matter():
    logits = draw(230, 5)
    batches = torch.cat(list(reversed(logits.split(9))))
    assert inception_score(logits) == inception_score(logits.flip(0)) == inception_score(batches)


def test_invalid_logits_are_refused():
    with pytest.raises(DataError, match=r"class logits have shape .*; expected .* at least 200"):
        inception_score(torch.zeros(199, 3))  # with one image per split the score is always 1
    with pytest.raises(DataError, match="class logits hold numbers that are not finite"):
        inception_score(torch.full((200, 3), math.inf))
    with pytest.raises(UsageError, match="0 splits were requested; give at least 1"):
        inception_score(torch.zeros(5, 3), splits=0)
