"""Kernel counts by device, runtime and graph."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kernel_counts",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("runtime", sa.String(length=300), nullable=False),
        sa.Column("graph_hash", sa.String(length=64), nullable=False),
        sa.Column("graph", sa.Text(), nullable=False),
        sa.Column("space", sa.String(length=200), nullable=True),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.name"], name=op.f("fk_kernel_counts_device")),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(
        op.f("ix_kernel_counts_device_runtime_graph_hash"),
        "kernel_counts",
        ["device", "runtime", "graph_hash"],
        unique=True,
    )
    op.create_index(op.f("ix_kernel_counts_device_space"), "kernel_counts", ["device", "space"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_kernel_counts_device_space"), table_name="kernel_counts")
    op.drop_index(op.f("ix_kernel_counts_device_runtime_graph_hash"), table_name="kernel_counts")
    op.drop_table("kernel_counts")
