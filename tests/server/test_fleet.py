"""Many agents at once, and killed servers: the benchmarks' own checks, for a few seconds."""

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
