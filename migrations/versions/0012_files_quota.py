"""What a tenant's files come to is read from an index alone."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX files_bytes_of_tenant ON files (tenant_id) INCLUDE (size_bytes) WHERE state <> 'erasing'")


def downgrade() -> None:
    op.execute("DROP INDEX files_bytes_of_tenant")
