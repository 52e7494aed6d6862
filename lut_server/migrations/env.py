"""Alembic's entry: migrates over the connection that `lut_server.database` hands in, inside its transaction."""

from alembic import context

from lut_server.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
