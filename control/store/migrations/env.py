"""What Alembic runs around the migration scripts.

The connection comes with a transaction that its owner has begun and will commit: Alembic leaves it alone, so
all migrations of a start come to pass, or none.
"""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
