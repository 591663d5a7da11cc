"""A sweep that is killed and repeated ends with the bytes of trainings that were not."""

import signal

import psutil
import pytest

SEEDS = 0, 1


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_killed_sweep_ends_with_the_same_bytes_when_it_is_repeated(begin_sweep, run_of, jobs):
    """The processes of its runs end with it; the third time, nothing is left to train."""
    runs = [run_of(f"runs/digits-seed{seed}") for seed in SEEDS]

    # Kill the process that was started, while every run that trains has a checkpoint.
    process = begin_sweep(jobs)
    for run in runs[:jobs]:
        run.wait_for_checkpoint(process, after=20)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not psutil.wait_procs(children, timeout=60)[1]
    steps = [run.newest for run in runs]
    assert 20 < steps[0] < runs[0].steps
    assert (steps[1] > 20) == (jobs == 2)

    # Repeat it with another number of processes, and once more.
    code, out, err = runs[0].finish(begin_sweep(3 - jobs))
    assert (code, out.count("Means over seeds")) == (0, 1), err
    assert f"resuming digits: {runs[0].steps} steps, from step {steps[0]}" in err
    code, again, err = runs[0].finish(begin_sweep(jobs))
    assert (code, err) == (0, "")
    assert again == out[out.index("Means over seeds") :]

    # Train without a sweep.
    for seed, run in zip(SEEDS, runs, strict=True):
        alone = run_of(f"alone-{seed}")
        assert alone.finish(alone.begin("--seed", str(seed)))[0] == 0
        assert run.end == alone.end
