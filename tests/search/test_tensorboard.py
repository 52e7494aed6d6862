import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from search.process.progress import SilentProgress
from search.runs.run_directory import RunDirectory
from search.training.tensorboard import FOLDER, TensorBoardLog
from search.training.training import Trainer
from shared.errors import LutnasError


def read(run: RunDirectory) -> EventAccumulator:
    events = EventAccumulator(str(run.path / FOLDER))
    events.Reload()
    return events


def test_curves_and_histograms_say_what_the_metrics_and_alpha_say_and_nothing_twice(
    tmp_path, config, table, digits, monkeypatch
):
    monkeypatch.setattr("search.training.training.METRICS_EVERY", 3)
    run = RunDirectory.create(tmp_path / "run", config, table)
    first, log = Trainer(run, digits), TensorBoardLog(run.path, 0)
    with pytest.raises(KeyboardInterrupt):  # after step 9 was reported, with the checkpoint at 5
        first.train(SilentProgress(), lambda: first.step == 9 and _interrupt(), log)
    log.close()
    second = Trainer(run, digits)
    log = TensorBoardLog(run.path, second.step)
    assert second.train(SilentProgress(), log=log)
    log.close()
    events = read(run)
    assert [one.step for one in events.Scalars("weights/loss")] == [3, 6, 9, 12, 14]
    assert [one.step for one in events.Scalars("alpha/loss")] == [9, 12, 14]
    assert {"weights/accuracy", "learning_rate", "temperature", "images_per_second"} <= set(events.Tags()["scalars"])
    at_end = [
        events.Scalars(f"probability/bench/kappa_1/{name}")[-1].value for name in table.parsed_space.slots[0].primitives
    ]
    assert sum(at_end) == pytest.approx(1, abs=1e-5)
    assert max(at_end) > min(at_end)
    assert events.Histograms("logits/bench/kappa_0.5")[-1].histogram_value.num == 30


def _interrupt() -> bool:
    raise KeyboardInterrupt


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(LutnasError, match=r"pip install 'lutnas\[tensorboard\]'"):
        TensorBoardLog(tmp_path, 0)
