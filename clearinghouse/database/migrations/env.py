"""Alembic's entry: run the steps on the connection that the store hands over."""

from alembic import context

from clearinghouse.database.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
# No transaction of Alembic's own: the caller's holds the steps and its lock.
context.run_migrations()
