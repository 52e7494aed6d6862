"""Every route under schemathesis, with and without a token: no 5xx, no undocumented status, no schema violation."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.wire import to_wire

# Schemas do not say what a name or a genotype is: valid by schema and refused by value is our intention.
# A device that was just registered has no table yet: 404 no_table is right.
LEFT_OUT = "positive_data_acceptance,ensure_resource_availability"

# Binary bodies are known to schemathesis under one name only.
HOOKS = """
import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "application/octet-stream")
"""
CONFIG = """
hooks = "hooks.py"

[parameters]
"path.name" = "pi"
"path.run_id" = "run-1"
"path.job_id" = "{job}"
"path.table_hash" = "{table}"
"query.device" = "pi"
"""


@pytest.mark.parametrize(("reads", "role"), [("open", "admin"), ("open", None), ("closed", None)])
def test_no_request_that_the_document_allows_or_forbids_surprises_the_server(start, lab, tmp_path, reads, role):
    with start(reads=reads) as api:
        table = lab.profile(api)
        job = api.post("/v1/jobs", to_wire(lab.verify_job(table))).json()["job"]["id"]
        (tmp_path / "schemathesis.toml").write_text(CONFIG.format(job=job, table=table["hash"]))
        (tmp_path / "hooks.py").write_text(HOOKS)
        command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", "schemathesis.toml", "run"]
        options = ["--max-examples", "6", "--seed", "1", "--exclude-checks", LEFT_OUT, "--no-color"]
        if role:
            options += ["-H", f"Authorization: Bearer {api.token(role)}"]
        # Last and alone: its wrong codes use up the tries that this address has, for tokens too.
        for paths in (["--exclude-path", "/v1/pair"], ["--include-path", "/v1/pair"]):
            finished = subprocess.run(
                [*command, f"{api.url}/openapi.json", *options, *paths],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=280,
            )
            assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-1000:]
            assert " passed" in finished.stdout
