"""The page for phones, without a browser: its files and headers, and onnxruntime-web."""

import gzip
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from lut_server.cli import main
from lut_server.settings import Settings
from lut_server.web_agent import web_runtime
from lut_server.web_agent.web_runtime import FILES, INTEGRITY, VERSION, find_runtime, runtime_folder
from shared.errors import InvalidValue, LutnasError
from shared.measurements.plan import make_plan
from shared.spaces import SPACES, make_space

STATIC = Path(web_runtime.__file__).parent / "static"
NODE = shutil.which("node")


def made_up_runtime(folder):
    found = folder / f"onnxruntime-web-{VERSION}"
    found.mkdir(parents=True)
    for name in FILES:
        (found / name).write_bytes(name.encode())
        (found / f"{name}.gz").write_bytes(gzip.compress(name.encode()))
    return folder


def test_page_and_its_files_are_isolated_and_allow_nothing_from_elsewhere(api):
    for name in ("", "/main.js", "/worker.js", "/agent.css", "/settings.json"):
        answer = api.get(f"/agent/web{name}", role=None)
        assert answer.status_code == 200, name
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "'unsafe-inline'" not in policy
        assert "'unsafe-eval'" not in policy
        assert "http" not in policy
    page = api.get("/agent/web", role=None)
    assert page.headers["content-type"].startswith("text/html")
    assert api.get("/agent/web", role=None, headers={"If-None-Match": page.headers["etag"]}).status_code == 304


def test_page_weighs_at_most_200_kb_and_loads_only_files_that_are_served(api):
    files = [path.name for path in STATIC.iterdir()]
    assert sum(len((STATIC / name).read_bytes()) for name in files) <= 200_000
    for name in files:
        assert api.get(f"/agent/web/{name}", role=None).content == (STATIC / name).read_bytes()
    assert api.get("/agent/web/nothing.js", role=None).status_code == 404
    assert api.get("/agent/web/..%2froutes.py", role=None).status_code == 404


def test_a_closed_server_shows_the_page_to_a_phone_that_is_not_paired_yet(start):
    with start(reads="closed") as api:
        assert api.get("/agent/web", role=None).status_code == 200
        assert api.get("/v1/plan?space=nas-bench-201/r8/c4/n1/k3/i3", role=None).status_code == 401


def test_settings_name_every_space_with_its_own_sizes_and_say_what_is_missing(start, tmp_path):
    with start(web_runtime=str(tmp_path / "nothing")) as api:
        told = api.get("/agent/web/settings.json", role=None).json()
        assert set(told["spaces"]) == set(SPACES)
        for name, sides in told["spaces"].items():
            assert make_space(name, **sides) == make_space(name)
        assert told["runtime"] is None
        assert "lut-server web-runtime install" in told["problem"]
        answer = api.get(f"/agent/web/onnxruntime-web-{VERSION}/{FILES[0]}", role=None)
        assert answer.status_code == 404
        assert "lut-server web-runtime install" in answer.json()["error"]["message"]


def test_onnxruntime_web_is_served_compressed_once_for_ever_and_nothing_beside_it(start, tmp_path):
    with start(web_runtime=str(made_up_runtime(tmp_path / "runtime"))) as api:
        told = api.get("/agent/web/settings.json", role=None).json()
        assert told["runtime"] == {"version": VERSION, "base": f"/agent/web/onnxruntime-web-{VERSION}"}
        for encoding, expected in (("gzip", "gzip"), ("identity", None)):
            for name in FILES:
                path = f"{told['runtime']['base']}/{name}"
                answer = api.get(path, role=None, headers={"Accept-Encoding": encoding})
                assert answer.content == name.encode()
                assert answer.headers.get("content-encoding") == expected
                assert "immutable" in answer.headers["cache-control"]
                assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert api.get(f"{told['runtime']['base']}/{FILES[2]}", role=None).headers["content-type"] == "application/wasm"
        for name in ("ort.min.mjs", f"{FILES[0]}.gz"):
            assert api.get(f"{told['runtime']['base']}/{name}", role=None).status_code == 404
        assert api.get(f"/agent/web/onnxruntime-web-1.0.0/{FILES[0]}", role=None).status_code == 404


def test_runtime_lies_beside_the_database_unless_a_folder_is_named(tmp_path):
    assert runtime_folder(Settings(database_url=f"sqlite:///{tmp_path}/a.db")) == tmp_path / "web-runtime"
    assert runtime_folder(Settings(database_url="postgresql+psycopg://u@h/d")) == Path("web-runtime")
    assert runtime_folder(Settings(web_runtime="/somewhere")) == Path("/somewhere")


def test_a_package_of_another_content_is_refused_and_leaves_nothing(tmp_path, capsys):
    package = tmp_path / "other.tgz"
    with tarfile.open(package, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/dist/ort.wasm.min.mjs"), io.BytesIO())
    arguments = ["web-runtime", "install", "--from", str(package), "--web-runtime", str(tmp_path / "runtime")]
    assert main(arguments) == 2
    assert "its SHA-512 differs" in capsys.readouterr().err
    assert not (tmp_path / "runtime").exists()
    with pytest.raises(InvalidValue, match="cannot be read"):
        web_runtime.install(tmp_path, tmp_path / "nothing.tgz")


def test_without_npm_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["web-runtime", "install", "--web-runtime", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "apt-get install npm" in said
    assert "--from" in said
    assert main(["web-runtime", "show", "--web-runtime", str(tmp_path)]) == 1
    assert "lut-server web-runtime install" in capsys.readouterr().err


def test_a_whole_package_is_unpacked_at_once_and_replaces_a_damaged_one(tmp_path, monkeypatch):
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for name in FILES:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    monkeypatch.setattr(web_runtime, "_check", lambda archive: None)
    assert find_runtime(tmp_path) is None
    found = web_runtime.install(tmp_path, package)
    (found / FILES[0]).unlink()
    assert find_runtime(tmp_path) is None
    assert find_runtime(tmp_path) is None
    assert web_runtime.install(tmp_path, package) == find_runtime(tmp_path)
    assert sorted(path.name for path in found.iterdir()) == sorted([*FILES, *(f"{name}.gz" for name in FILES)])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".new")] == []
    package.write_bytes(b"no archive")
    with pytest.raises(LutnasError, match="cannot unpack"):
        web_runtime.install(tmp_path, package)


def test_the_pinned_package_is_a_sha_512_as_npm_writes_it():
    assert INTEGRITY.startswith("sha512-")
    assert len(INTEGRITY) == len("sha512-") + 88


def run_script(script, data):
    """What a module prints that imports the page's own ones, as JSON."""
    if NODE is None:
        pytest.skip("there is no node here (Debian: apt-get install nodejs)")
    done = subprocess.run(
        [NODE, "--input-type=module", "--eval", script.replace("STATIC", STATIC.as_uri())],
        input=json.dumps(data), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


READ = "import { readFileSync } from 'node:fs'; const data = JSON.parse(readFileSync(0));"


def test_browsers_and_agents_give_a_plan_and_a_measurement_the_same_id():
    from profiler_agent.spool.run_spool import measurement_id
    from shared.wire import to_wire

    plans = [make_plan(make_space(name, resolution=32), 3, 2, isolated=True) for name in SPACES]
    script = READ + (
        "import { planId, measurementId } from 'STATIC/names.js';"
        "const ids = data.map((plan) => [planId(plan), plan.tasks.map((task) => measurementId('run-1', task))]);"
        "console.log(JSON.stringify(ids));"
    )
    expected = [[plan.id, [measurement_id("run-1", task) for task in plan.tasks]] for plan in plans]
    assert run_script(script, [to_wire(plan) for plan in plans]) == expected


def test_browsers_and_python_agree_on_hashes_and_canonical_text():
    import hashlib

    from shared.wire import canonical_json

    texts = ["", "abc", "a" * 55, "b" * 56, "c" * 63, "d" * 64, "e" * 65, "ü€😀" * 99, "f" * 1000]
    script = READ + (
        "import { sha256Hex } from 'STATIC/hashing.js';"
        "import { canonicalJson } from 'STATIC/names.js';"
        "const bytes = (text) => new TextEncoder().encode(text);"
        "console.log(JSON.stringify(data.map((text) =>"
        " [sha256Hex(bytes(text)), canonicalJson({ b: [text, null, 1], a: true })])));"
    )
    expected = [
        [hashlib.sha256(text.encode()).hexdigest(), canonical_json({"b": [text, None, 1], "a": True}).decode()]
        for text in texts
    ]
    assert run_script(script, texts) == expected


def test_a_run_is_given_up_only_for_what_asking_anew_does_not_mend():
    script = READ + (
        "globalThis.self = globalThis;"
        "const { Agent } = await import('STATIC/agent.js');"
        "const { ServerRefused } = await import('STATIC/server.js');"
        "const fates = {};"
        "for (const [status, code] of data) {"
        "  const agent = new Agent({}, { finish: async () => { fates[code] = 'given up'; } }, () => {});"
        "  agent.completeRun = async () => { throw new ServerRefused(status, code, ''); };"
        "  await agent.continueRun({ id: 'run-1', run: {} }).catch(() => { fates[code] = 'kept'; });"
        "}"
        "console.log(JSON.stringify(fates));"
    )
    kept = {"unauthorized": 401, "forbidden": 403, "unknown_device": 404, "unknown_run": 404}
    given_up = {"conflict": 409, "too_large": 413, "invalid": 422}
    refusals = [[status, code] for code, status in (kept | given_up).items()]
    expected = dict.fromkeys(kept, "kept") | dict.fromkeys(given_up, "given up")
    assert run_script(script, refusals) == expected
