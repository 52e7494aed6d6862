"""The schema number of every form that lutnas keeps or sends, and the refusal of any other number.

The rule: what is kept or handed over as a whole bears a single number, and readers take that number alone. The first
number is 10: forms of the time before the first release bore smaller numbers, or none. Whoever changes the fields of a
form, or what they mean, adds 1 to its number here.

    form                      where its number stands
    latency table, plan       `schema` of the JSON
    run directory             `schema` of config.json, for every file of the folder; `schema` of training.json
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
    """Raise OtherSchema unless a form bears the number that this lutnas reads; None stands for no number."""
    if found != needed:
        raise OtherSchema(what, found, needed)
