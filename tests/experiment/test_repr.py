"""The repr of objects that a user meets: one short line."""

from pathlib import Path

import advnets
from advnets.data.prepared import open_data
from advnets.experiment.train import TrainResult


def test_objects_have_a_short_repr(tmp_path, tiny):
    run = tmp_path / "run"
    model = advnets.train(tiny, out=run)
    assert repr(model) == (
        f"TrainedModel({str(run)!r}, step={model.step:,}, weights={model.weights!r}, "
        f"preset={tiny.preset!r}, device='cpu')"
    )
    data = open_data(tiny.data)
    expected = "Dataset('digits', 1 x 8 x 8, train=1,197, valid=300, test=300)"
    assert repr(data.dataset) == expected
    assert repr(data.dataset.train) == "ArraySplit(1,197 x 1 x 8 x 8, uint8, labeled)"
    assert repr(data).startswith(f"PreparedData({expected}, ")
    result = TrainResult(Path("runs/a"), complete=True, signal=None, step=1500)
    assert repr(result) == "TrainResult('runs/a', step=1,500, complete)"
    stopped = TrainResult(Path("runs/a"), complete=False, signal=2, step=7)
    assert repr(stopped) == "TrainResult('runs/a', step=7, stopped by signal 2)"
