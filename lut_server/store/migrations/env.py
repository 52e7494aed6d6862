"""Alembic's entry: migrates within the transaction of `lut_server.store.database`."""

from alembic import context

from lut_server.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
