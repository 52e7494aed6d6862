"""Many agents at once, and killed servers: the benchmarks' own checks, for a few seconds."""

from benchmarks.server import hostile
from benchmarks.server.fleet import simulate
from benchmarks.server.kill import kill_again_and_again


def test_no_job_is_lost_or_held_by_two_when_a_fleet_works(any_url, tmp_path):
    servers = 1 if any_url.startswith("sqlite") else 2
    outcome = simulate(any_url, servers, tmp_path / "log", agents=20, seconds=4, measures_s=(0.3, 0.8))
    assert outcome.errors == {}
    assert (outcome.lost_jobs, outcome.lost_measurements, outcome.held_by_two) == (0, 0, 0)
    assert len(outcome.finished) == len(outcome.leased) == len(outcome.uploads_s) >= 20


def test_what_a_killed_server_acknowledged_is_there_once(any_url, tmp_path):
    left = kill_again_and_again(any_url, tmp_path / "log", kills=2)
    is_sound = True if any_url.startswith("sqlite") else None
    assert (left.lost, left.doubled, left.is_sound) == (0, 0, is_sound)
    assert left.acknowledged >= 40


def test_strangers_cost_agents_no_upload_and_the_server_no_memory_without_end(tmp_path):
    figures = hostile.measure(tmp_path, seconds=6)
    assert figures["hostile.upload_p50_s"].n >= 50
    assert figures["hostile.dear_answered"].value >= 1  # few beside other tests
    slow = {"hostile.upload_p99_s"}  # beside other tests
    assert {
        name: figure.value for name, figure in figures.items() if name not in slow and figure.reached is False
    } == {}
