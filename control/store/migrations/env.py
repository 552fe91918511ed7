"""What Alembic runs around the migration scripts: they share the connection they are given."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # SQLite's data definition is transactional once we begin the transaction ourselves; all or
    # nothing is what a start that is killed half-way needs.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
