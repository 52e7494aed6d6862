"""All tables, as `lut_server.store.schema` describes them.

The first migration after a release writes the tables of that release out here: a migration never
changes afterwards.
"""

from alembic import op

from lut_server.store.schema import metadata

revision = "0012"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)
