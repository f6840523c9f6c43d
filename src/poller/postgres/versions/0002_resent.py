"""When a video was last announced again by `poller reconcile`."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; without a default, that rewrites no row."""
    op.execute("ALTER TABLE videos ADD COLUMN resent_at timestamptz")


def downgrade() -> None:
    """Refuse, as all of them do."""
    raise NotImplementedError("restore a backup instead")
