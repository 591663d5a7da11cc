"""Runs with convolutions, bfloat16, threads or compiled steps are killed and resumed exactly."""

import pytest

STEPS = 150
DCGAN = (
    *("dcgan", "--data", "digits", "--steps", str(STEPS), "--batch-size", "20", "--threads", "2"),
    *("--generator.base-channels", "4", "--discriminator.base-channels", "4"),
)


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(["--precision", "bfloat16"], id="bfloat16"),
        pytest.param(["--precision", "bfloat16", "--game.reuse-fakes"], id="shared"),
        pytest.param(["--compile"], id="compiled", marks=pytest.mark.slow),
    ],
)
def test_every_engine_resumes_to_the_same_bytes(run_of, engine):
    uninterrupted, killed = (run_of(name, DCGAN, STEPS) for name in ("whole", "killed"))
    code, _, err = uninterrupted.finish(uninterrupted.begin(*engine))
    assert code == 0, err
    process = killed.begin(*engine)
    killed.wait_for_checkpoint(process, after=20)
    process.kill()
    killed.finish(process)
    assert 20 < killed.newest < STEPS
    code, _, err = killed.finish(killed.resume())
    assert code == 0, err
    assert killed.end == uninterrupted.end
