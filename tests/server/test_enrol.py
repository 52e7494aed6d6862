"""`profiler-agent enrol` and tokens from files, against a real server."""

import argparse

import pytest

from lut_server.auth import create_token
from profiler_agent.cli import main
from shared.command_line import find_access
from shared.errors import InvalidValue
from shared.runtime import Runtime

SIZES = ["--resolution", "8", "--channels", "4", "--depth", "3"]


@pytest.fixture
def enrol(api, tmp_path, monkeypatch):
    """Runs the command as device `pi`, with the token in a file."""
    monkeypatch.delenv("LUTNAS_TOKEN", raising=False)
    file = tmp_path / "token"
    file.write_text(api.token("agent") + "\n")
    connection = ["--server", api.url, "--device", "pi", "--token-file", str(file)]
    return lambda *more: main(["enrol", *connection, *more])


def said(capsys):
    """What the agent printed; the server of this process writes its audit log there, too."""
    return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("{")]


def jobs(api):
    return api.get("/v1/jobs?device=pi").json()["jobs"]


def test_enrol_registers_the_device_with_what_it_is_and_queues_nothing(api, enrol, capsys):
    assert enrol() == 0
    assert said(capsys) == [f"pi is registered at {api.url}"]
    device = api.get("/v1/devices/pi").json()["device"]
    assert device["probe"]["onnxruntime"] != "unknown"
    assert jobs(api) == []


def test_enrol_queues_a_profile_of_each_space_and_not_twice(api, enrol, capsys):
    spaces = ["--space", "nas-bench-201", "darts", *SIZES, "--threads", "2"]
    assert enrol("--space", "nas-bench-201", *SIZES, "--threads", "2") == 0
    assert enrol(*spaces) == 0
    assert "nas-bench-201/r8/c4/n3/k10/i3: its profile is queued already" in said(capsys)
    queued = jobs(api)
    assert [queued_job["job"]["kind"] for queued_job in queued] == ["profile", "profile"]
    assert {queued_job["job"]["space"].partition("/")[0] for queued_job in queued} == {"nas-bench-201", "darts"}
    assert {queued_job["job"]["runtime"]["threads"] for queued_job in queued} == {2}


def test_another_runtime_is_another_table_and_queued_beside_it(api, enrol):
    for more in ([], ["--precision", "int8"]):
        assert enrol("--space", "nas-bench-201", *SIZES, *more) == 0
    assert [job["job"]["runtime"]["precision"] for job in jobs(api)] == ["fp32", "int8"]


def test_a_job_that_is_over_is_queued_again(api, enrol):
    assert enrol("--space", "nas-bench-201", *SIZES) == 0
    assert api.post(f"/v1/jobs/{jobs(api)[0]['id']}/cancel").status_code == 200
    assert enrol("--space", "nas-bench-201", *SIZES) == 0
    assert sorted(job["state"] for job in jobs(api)) == ["cancelled", "queued"]


def test_a_waiting_job_is_found_behind_any_number_that_are_over(api, enrol, capsys):
    assert enrol("--space", "nas-bench-201", *SIZES) == 0
    new = api.store.jobs.get(jobs(api)[0]["id"]).job
    api.store.jobs.cancel(jobs(api)[0]["id"])
    for _ in range(1000):
        api.store.jobs.cancel(api.store.jobs.add(new).id)
    assert enrol("--space", "nas-bench-201", *SIZES) == 0
    assert enrol("--space", "nas-bench-201", *SIZES) == 0
    assert said(capsys)[-1].endswith("its profile is queued already")


def test_a_table_that_the_server_has_is_not_asked_for(api, enrol, lab, capsys):
    from profiler_agent.ort.sessions import find_version

    lab.profile(api, runtime=Runtime("onnxruntime", find_version()))
    assert enrol("--space", "nas-bench-201", *SIZES, "--depth", "1") == 0
    assert f"{lab.space}: the server has its table already" in said(capsys)
    assert jobs(api) == []


def test_a_token_for_another_device_is_refused_in_one_line(api, enrol, tmp_path, capsys):
    (tmp_path / "token").write_text(create_token(api.store.tokens, "agent", device="pear", clock=api.clock))
    assert enrol() == 1
    (line,) = said(capsys)
    assert "bound to device 'pear'" in line


def found_token(environment, token=None, token_file=None):
    return find_access(argparse.Namespace(token=token, token_file=token_file, environment=environment))[0]


def test_a_flag_goes_before_the_environment_and_the_variable_before_its_file(tmp_path):
    file = tmp_path / "token"
    file.write_text("  from-file\n")
    environment = {"LUTNAS_TOKEN": "from-variable", "LUTNAS_TOKEN_FILE": str(file)}
    assert found_token(environment, "from-flag") == "from-flag"
    assert found_token(environment, token_file=str(file)) == "from-file"
    assert found_token(environment) == "from-variable"
    assert found_token({"LUTNAS_TOKEN_FILE": str(file)}) == "from-file"
    assert found_token({}) is None


@pytest.mark.parametrize("content", [None, b"", b"two tokens", b"\xff\xfe"])
def test_a_file_without_a_token_is_named(tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidValue, match=str(file)):
        found_token({}, token_file=str(file))


def test_token_and_token_file_exclude_one_another(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["upload", "--server", "http://127.0.0.1:1", "--token", "a", "--token-file", "b"])
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err
