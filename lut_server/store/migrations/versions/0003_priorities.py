"""Priorities of jobs, when an agent last asked for a device's work, and which runs gave up their raw values."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("devices", sa.Column("last_asked_at", sa.String(length=40), nullable=True))
    op.add_column("runs", sa.Column("raw_dropped_at", sa.String(length=40), nullable=True))
    op.add_column("jobs", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.execute("UPDATE jobs SET state = 'failed' WHERE state = 'dead'")
    op.drop_column("jobs", "priority")
    op.drop_column("runs", "raw_dropped_at")
    op.drop_column("devices", "last_asked_at")
