"""The environment of Alembic: runs migrations on the connection that the store passes."""

from alembic import context

from clearinghouse.database.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
# without a transaction of Alembic's own: the caller's holds the writer lock
context.run_migrations()
