"""docs/api.md, docs/server.md and the OpenAPI document say all that there is, and nothing that there is not."""

import re
from pathlib import Path

import pytest

from lut_server.app import create_app
from lut_server.error_codes import STATUS_OF_CODE
from lut_server.http.services import BODIES
from lut_server.settings import SETTINGS, Settings, read_settings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "api.md").read_text(encoding="utf-8")
SERVER_PAGE = (DOCS / "server.md").read_text(encoding="utf-8")


@pytest.fixture
def document(store):
    return create_app(Settings(), store=store).openapi()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_page_has_a_heading_for_every_route_and_no_other_and_says_its_role(document):
    headings = dict(re.findall(r"^### `([A-Z]+ /\S*)`\n\n\*\*Role\*\* (\w+)", PAGE, re.MULTILINE))
    assert headings == {f"{method} {path}": operation["x-role"] for method, path, operation in operations(document)}


def test_page_lists_every_status_of_every_route(document):
    sections = {part.partition("`")[0]: part for part in re.split(r"^### `", PAGE, flags=re.MULTILINE)[1:]}
    for method, path, operation in operations(document):
        section = sections[f"{method} {path}"]
        for status, response in operation["responses"].items():
            if status in ("500", "503", "401", "403", "429", "408"):  # said once for all
                continue
            assert re.search(rf"\b{status}\b", section), (method, path, status)
            for code in response["description"].split(", "):
                if code in STATUS_OF_CODE and code not in ("invalid_json", "too_large", "unsupported_encoding"):
                    assert f"`{code}`" in section, (method, path, code)


def test_page_lists_every_setting_with_flag_variable_and_default():
    for setting in SETTINGS:
        row = f"| `{setting.name}` | `{setting.flag}` | `{setting.variable}` | `{setting.default}` | {setting.help} |"
        assert row in SERVER_PAGE


def test_page_lists_every_error_code_with_its_status():
    for code, status in STATUS_OF_CODE.items():
        assert f"| `{code}` | {status} |" in PAGE


def test_flag_wins_over_environment_and_environment_over_default():
    environment = {"LUTNAS_PORT": "1", "LUTNAS_HOST": "::1"}
    settings = read_settings({"port": 2, "host": None}, environment)
    assert (settings.port, settings.host, settings.reads) == (2, "::1", "open")


def test_every_route_documents_its_body_its_answers_and_the_error_shape(document):
    schemas = document["components"]["schemas"]
    for method, path, operation in operations(document):
        assert operation["summary"], path
        success = [status for status in operation["responses"] if status.startswith("2")]
        assert success, path
        if method in ("POST", "PUT") and not path.endswith(("/cancel", "/requeue")):
            assert operation["requestBody"]["content"], path
        if operation["x-role"] != "anyone":
            assert {"401", "403"} <= set(operation["responses"]), path
            assert operation["security"], path
        for status, response in operation["responses"].items():
            if status >= "400":
                assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}
    assert schemas["ErrorAnswer"]["properties"]["error"] == {"$ref": "#/components/schemas/Problem"}
    assert {kind.__name__ for kind in BODIES} <= set(schemas)


def test_every_reference_of_the_document_leads_somewhere(document):
    schemas = document["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", str(document))) <= set(schemas)
    assert "HTTPValidationError" not in schemas
