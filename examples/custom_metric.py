"""A custom metric: advnets evaluate runs/digits --metrics examples/custom_metric.py:brightness

From Python: python examples/custom_metric.py runs/digits
"""

import sys

import advnets
from advnets.evaluation import MetricSpec, Value


def brightness_records(context):
    """Compare the mean pixel of samples, and of real training images, with that of test images."""
    test = context.labeled_test()[0]
    records = []
    for samples, images in context.sample_sets.items():
        result = {"mean": float(images.mean()), "error": float(images.mean() - test.mean())}
        counts = {"n_real": len(test), "n_fake": len(images)}
        records.append(context.record("brightness", samples, **counts, **result))
    return records


brightness = MetricSpec(
    name="brightness",
    title="brightness",
    help="mean pixel of samples, from 0 to 1, and its difference from that of test images",
    records=brightness_records,
    values={"error": Value("lower")},
    details=("mean",),
    describe=lambda record: f"mean pixel {record['mean']:.3f}, error {record['error']:+.3f}",
)

if __name__ == "__main__":
    for score in advnets.evaluate(sys.argv[1], metrics=[brightness]):
        print(score["samples"], score["mean"], score["error"])
