"""What a device gets from the server: its wheel, tested versions, and a script for its address."""

import base64
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lut_server.provisioning import release
from lut_server.provisioning.on_device.requirements import get_requirements
from lut_server.provisioning.release import build_wheel, get_release, read_template
from shared import __version__
from shared.errors import InvalidValue, LutnasError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel():
    return build_wheel()


def names(wheel):
    return zipfile.ZipFile(io.BytesIO(wheel.content)).namelist()


def test_the_same_files_make_the_same_wheel(wheel):
    assert build_wheel() == wheel
    assert wheel.sha256 == hashlib.sha256(wheel.content).hexdigest()
    assert wheel.name == f"lutnas-{__version__}-py3-none-any.whl"


def test_wheel_holds_every_file_of_the_checkout_and_nothing_compiled(wheel):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--", *release.PACKAGES], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    assert set(listed.stdout.split()) <= set(names(wheel))
    assert not [name for name in names(wheel) if name.endswith(".pyc") or "__pycache__" in name]


def test_wheel_records_the_digest_of_each_file(wheel):
    archive = zipfile.ZipFile(io.BytesIO(wheel.content))
    folder = f"lutnas-{__version__}.dist-info"
    lines = archive.read(f"{folder}/RECORD").decode().splitlines()
    recorded = {name: (digest, size) for name, digest, size in (line.rsplit(",", 2) for line in lines)}
    assert recorded.pop(f"{folder}/RECORD") == ("", "")
    assert set(recorded) == set(archive.namelist()) - {f"{folder}/RECORD"}
    for name, (digest, size) in recorded.items():
        content = archive.read(name)
        said = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        assert (digest, size) == (f"sha256={said}", str(len(content)))


def test_a_server_that_was_installed_from_the_wheel_makes_the_same_wheel_again(wheel, tmp_path):
    (tmp_path / wheel.name).write_bytes(wheel.content)
    install = [
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--target",
        str(tmp_path / "site"),
        str(tmp_path / wheel.name),
    ]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, timeout=120)
    program = "from lut_server.provisioning.release import build_wheel; print(build_wheel().sha256)"
    # -S: without this environment's site-packages, the checkout in it among them.
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {program}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == wheel.sha256
    assert (tmp_path / "site" / "bin" / "profiler-agent").exists()
    assert {point.name for point in entry_points(group="console_scripts") if point.value.startswith("profiler_agent")}


def test_without_an_installation_there_is_no_wheel_and_a_line_says_so(monkeypatch):
    monkeypatch.setattr(release, "NAME", "lutnas-that-is-not-installed")
    with pytest.raises(LutnasError, match="is not installed here"):
        build_wheel()


def test_metadata_of_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(release, "__version__", "99.0")
    with pytest.raises(LutnasError, match=r"99.0 runs here, .* is installed"):
        build_wheel()


def closure(name, extra, found):
    for line in requires(name) or []:
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            key = canonicalize_name(needed.name)
            if key not in found:
                found.add(key)
                closure(needed.name, "", found)
    return found


def test_constraints_are_those_of_the_repository_for_all_that_the_agent_installs():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(line.partition("==")[0]): line for line in lines if "==" in line}
    wanted = {pins[name] for name in closure("lutnas", "agent", set())}
    # Their own dependencies differ between Pythons: 3.13 needs no typing_extensions.
    served = {line for line in get_release().constraints.decode().splitlines() if not line.startswith("#")}
    assert wanted <= served
    assert {line.partition("==")[0] for line in served - wanted} <= {"typing_extensions"}
    assert served <= set(pins.values())


def test_script_is_made_for_the_address_it_is_asked_for_at(steady_api):
    answer = steady_api.get("/agent/install.sh", role=None)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/x-shellscript; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"].split(", ")[0] == "Host"
    assert f"\nserved_from={steady_api.url}\n" in answer.text
    other = steady_api.get("/agent/install.sh", role=None, headers={"Host": "lut.example:81"})
    assert "\nserved_from=http://lut.example:81\n" in other.text


@pytest.mark.parametrize(
    "host", ["a;reboot", "$(reboot)", "a'b", "a b", "`id`", "a/../b", "ü", "a\\", "[::1", "a:port"]
)
def test_a_host_that_is_none_never_gets_into_the_script(steady_api, host):
    answer = steady_api.get("/agent/install.sh", role=None, headers={"Host": host.encode("utf-8")})
    if answer.status_code != 422:  # the framework overhears some, and says the address that it listens on
        assert f"\nserved_from={steady_api.url}\n" in answer.text
    assert f"=http://{host}" not in answer.text


def test_script_names_the_files_that_the_server_then_gives(steady_api):
    script = steady_api.get("/agent/install.sh", role=None).text
    (name,) = re.findall(r"^wheel=(\S+)$", script, re.MULTILINE)
    wheel = steady_api.get(f"/agent/wheels/{name}", role=None)
    constraints = steady_api.get("/agent/constraints.txt", role=None)
    for answer, what in ((wheel, "wheel"), (constraints, "constraints")):
        sha256 = hashlib.sha256(answer.content).hexdigest()
        assert f"\n{what}_sha256={sha256}\n" in script
        assert answer.headers["etag"] == f'"{sha256}"'
        path = answer.request.url.path
        assert steady_api.get(path, role=None, headers={"If-None-Match": f'"{sha256}"'}).status_code == 304


def test_no_placeholder_is_left_in_the_script():
    script = get_release().script("http://host:1")
    assert not re.search(r"@[A-Z]", script)
    assert "@INCLUDE" not in read_template()
    with pytest.raises(InvalidValue):
        get_release().script("ftp://host")


def test_another_wheel_is_not_found_and_the_answer_names_the_one_there_is(steady_api):
    answer = steady_api.get("/agent/wheels/lutnas-0.0.1-py3-none-any.whl", role=None)
    assert answer.status_code == 404
    assert f"lutnas-{__version__}-py3-none-any.whl" in answer.json()["error"]["message"]


def test_script_and_wheel_need_no_token_where_reads_are_closed_but_a_token_says_nothing_to_strangers(start):
    with start(reads="closed") as closed:
        for path in ("/agent/install.sh", "/agent/constraints.txt", f"/agent/wheels/{build_wheel().name}"):
            assert closed.get(path, role=None).status_code == 200
        assert closed.get("/v1/token", role=None).status_code == 401
        assert closed.get("/v1/token", role="agent").json() == {"role": "agent", "device": None}


def test_a_token_says_its_role_and_device(steady_api):
    assert steady_api.get("/v1/token", role=None).json() == {"role": "read", "device": None}
    assert steady_api.get("/v1/token", role="search").json() == {"role": "search", "device": None}
    assert steady_api.get("/v1/token", token="lut_123456789012_abcdefghijabcdefghij").status_code == 401


METADATA = b"""Name: lutnas
Requires-Dist: numpy>=1.26; extra == "agent"
Requires-Dist: onnxruntime>=1.20; extra == "agent"
Requires-Dist: old-thing; extra == "agent" and python_version < "3"
Requires-Dist: torch>=2.6; extra == "search"
Requires-Dist: for-all
"""


def test_requirements_are_the_wheels_own_words_for_the_agent():
    assert get_requirements(METADATA, "onnxruntime", {}) == ["numpy>=1.26", "onnxruntime>=1.20"]
    assert get_requirements(METADATA, "onnxruntime", {"onnxruntime": ["onnxruntime"]})[1] == "onnxruntime>=1.20"


def test_another_build_of_onnxruntime_takes_its_place_and_one_that_is_there_stays():
    assert get_requirements(METADATA, "onnxruntime-gpu==1.23", {}) == ["numpy>=1.26", "onnxruntime-gpu==1.23"]
    assert get_requirements(METADATA, "onnxruntime", {"onnxruntime": ["onnxruntime-gpu"]}) == ["numpy>=1.26"]
