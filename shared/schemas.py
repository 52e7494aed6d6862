"""The schema number of every form that lutnas keeps or sends.

Each form has a single number, and readers accept that number alone. The first number is 10: forms
before the first release had smaller numbers, or none. Add 1 to the number here with every change to
the fields of a form or to their meaning.

    form                      place of its number
    latency table, plan       `schema` of the JSON
    run directory             `schema` of config.json, for all files; `schema` of training.json
    comparison                `schema` of comparison.json; its folder begins with a run directory
    run file                  `version` of the JSON
    spool of an agent         the file `schema`, for every file of the folder
    spool of a browser        the version of its IndexedDB (`lut_server/web_agent/static/spool.js`)
    database                  Alembic's revision, in four digits
    archive of a database     `schema` of its first line: the database's revision
"""

from __future__ import annotations

from shared.errors import OtherSchema

TABLE_SCHEMA = 10
PLAN_SCHEMA = 10
RUN_DIRECTORY_SCHEMA = 10
COMPARISON_SCHEMA = 10
RUN_FILE_SCHEMA = 10
SPOOL_SCHEMA = 10
DATABASE_REVISION = "0010"


def require_schema(what: str, found: object, needed: int | str) -> None:
    """Raise OtherSchema unless a form has the number that this lutnas reads."""
    if found != needed:
        raise OtherSchema(what, found, needed)
