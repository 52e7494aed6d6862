"""Alembic's entry: migrates over the connection that `lut_server.store.database` hands in, inside
its transaction."""

from alembic import context

from lut_server.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
