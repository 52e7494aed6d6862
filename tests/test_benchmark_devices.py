import pytest

from benchmarks.devices import providers
from benchmarks.devices.clean_debian import CleanDebian
from benchmarks.devices.install import Installation, figures, follow
from benchmarks.stack import StackError

HERE = CleanDebian("here", (), {"SAID": "by the environment"})


def test_a_system_runs_lines_with_its_own_environment_alone(monkeypatch):
    monkeypatch.setenv("OF_THIS_MACHINE", "yes")
    assert HERE.run('echo "$SAID, $OF_THIS_MACHINE"') == "by the environment, \n"
    assert HERE.run("cat", b"content") == "content"
    assert HERE.used_mb() > 1
    with pytest.raises(RuntimeError, match="`exit 3` failed in here"):
        HERE.run("exit 3")


def test_time_is_taken_at_the_profiles_first_words():
    first_s, end_s = follow(HERE, "sleep .2; echo starting the profile; sleep .2; echo measuring; sleep 1; echo table")
    assert 0.4 <= first_s <= end_s - 0.5


@pytest.mark.parametrize(
    "line", ["echo installed", "echo starting the profile", "echo starting the profile; echo words; exit 1"]
)
def test_a_line_that_starts_no_profile_or_fails_is_no_figure(line):
    with pytest.raises(StackError, match="the line ended with exit code"):
        follow(HERE, line)


def test_figures_are_medians_with_their_range_and_bars():
    found = figures([Installation(20.0, 25.0, 190.0, 3.0), Installation(130.0, 140.0, 200.0, 4.0)])
    assert found["devices.install_seconds"].value == 75.0
    assert found["devices.install_seconds"].spread == "20.0 to 130.0"
    assert found["devices.install_seconds"].bar == "<= 120"
    assert found["devices.install_mb"].reached
    assert found["devices.install_again_seconds"].bar is None


def test_a_providers_error_is_that_of_kernel_prices_where_its_graph_is_shown_and_an_imitated_device_says_so():
    by_ops = {"networks": 40, "mape_percent": 2.5, "within_10_percent": 100.0, "kendall_tau": 0.9}
    rungs = [{"met": True}, {"met": True}, {"met": False}, {"met": True}]
    hidden = providers.figures_of(providers.OPENVINO, {"kernels": None, "held_out": by_ops}, rungs, 30.0)
    assert (hidden["providers.openvino.mape_percent"].value, hidden["providers.openvino.mape_percent"].n) == (2.5, 40)
    assert hidden["providers.openvino.met"].reached is False
    shown = {"kernels": {"held_out": {**by_ops, "mape_percent": 0.5}}, "held_out": by_ops}
    figure = providers.figures_of(providers.WEBGPU, shown, rungs, 900.0)["providers.webgpu.mape_percent"]
    assert (figure.value, figure.spread, figure.bar) == (0.5, "emulated", None)
