"""Trackers write what events.jsonl holds: each is run offline, and its files are read back."""

import json
import sys
from dataclasses import replace

import pytest

import advnets
from advnets import config
from advnets.errors import MissingExtraError, UnknownNameError
from advnets.experiment.train import train
from advnets.run_directory import RunDirectory
from advnets.trackers import TRACKERS, make_tracker

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def scored(tiny):
    """A training that is also evaluated."""
    intervals = config.Intervals(log_every=10, sample_every=30, checkpoint_every=20, eval_every=30)
    return replace(tiny, intervals=intervals)


def expected(run, kind, name):
    """Return the steps and values of a number in events.jsonl."""
    events = RunDirectory(run).events()
    return [
        (e["step"], e[name]) for e in events if e["kind"] == kind and e.get("weights") != "last"
    ]


def approximately(pairs):
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in pairs]


def leveldb_records(content):
    """Return the records of a log in the format of LevelDB, after a header of 7 bytes.

    Blocks of 32 KiB hold fragments: CRC (4 bytes), length (2), type (1: whole, 2 to 4: first,
    middle, last), content.
    """
    position, parts, records = 7, b"", []
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            records.append(parts)
            parts = b""
    return records


def test_tensorboard_files_hold_scalars_samples_and_config_also_after_a_resume(scored, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    half = scored.with_stage(replace(scored.stage, steps=30))
    train(half, run, [make_tracker("tensorboard")])
    train(scored, run, [make_tracker("tensorboard")], resume=True)

    files = EventAccumulator(str(run / "tensorboard")).Reload()
    values = [(s.step, s.value) for s in files.Scalars("train/value")]
    assert values == approximately(expected(run, "log", "value"))
    scores = [(s.step, s.value) for s in files.Scalars("eval/ema/mean")]
    assert scores == approximately(expected(run, "evaluate", "mean"))
    assert [image.step for image in files.Images("samples")] == [30, 60]
    text = files.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "stages.0.generator.latent_dim: 8" in text


def test_wandb_writes_an_offline_run_in_the_run_directory(scored, tmp_path, monkeypatch):
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    train(scored, run, [make_tracker("wandb")])

    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    rows, configs = [], {}
    for data in leveldb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            rows.append(
                {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in items
                }
            )
            rows[-1]["_step"] = record.history.step.num
        for item in record.run.config.update:
            configs[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    values = [(row["_step"], row["train/value"]) for row in rows if "train/value" in row]
    assert values == approximately(expected(run, "log", "value"))
    assert configs["stages.0.generator.latent_dim"] == 8
    assert [row["_step"] for row in rows if any("samples" in key for key in row)] == [30, 60]


def test_mlflow_without_settings_stores_curves_parameters_and_samples_in_mlruns(
    scored, tmp_path, monkeypatch
):
    import mlflow

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):  # restored at the end
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    train(scored, run, [make_tracker("mlflow")])

    assert {path.name for path in tmp_path.iterdir()} == {"mlruns", "run"}
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("advnets")
    (stored,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(stored.info.run_id, "train.value")
    assert [(m.step, m.value) for m in history] == approximately(expected(run, "log", "value"))
    assert stored.data.params["stages.0.generator.latent_dim"] == "8"
    assert stored.data.tags["reason"] == "done"
    samples = client.list_artifacts(stored.info.run_id, "samples")
    assert len(samples) == 2
    # Settings and times are no curves.
    assert stored.data.metrics.keys() == {
        *("train.d_real", "train.d_fake", "train.value", "train.value.real", "train.value.fake"),
        *("train.loss.discriminator", "train.loss.generator", "eval.ema.mean", "eval.last.mean"),
    }


def test_trackio_stores_metrics_and_samples(scored, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    run = tmp_path / "run"
    train(scored, run, [make_tracker("trackio")])

    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs("advnets", "run")
    values = [(row["step"], row["train/value"]) for row in rows if "train/value" in row]
    assert values == approximately(expected(run, "log", "value"))
    assert [row["step"] for row in rows if "samples" in row] == [30, 60]


def test_python_takes_trackers_by_name_and_refuses_unknown_ones(tiny, tmp_path):
    advnets.train(tiny, out=tmp_path / "run", callbacks=["tensorboard"], progress=False)
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    with pytest.raises(UnknownNameError, match="tensorbord"):
        advnets.train(tiny, out=tmp_path / "other", callbacks=["tensorbord"])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_names_its_extra(name, monkeypatch):
    library = {"mlflow": "mlflow", "trackio": "trackio", "wandb": "wandb"}.get(name, "tensorboard")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"advnets\[{name}\]"):
        make_tracker(name)
