"""An index that finds more of the nearest."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Build the graph with more care; rows that are in it stay as they are.

    `REINDEX INDEX CONCURRENTLY embeddings_dct_hog_v1` does the same for those, when there is time.
    """
    op.execute("ALTER INDEX embeddings_dct_hog_v1 SET (ef_construction = 256)")


def downgrade() -> None:
    """Refuse, as all of them do."""
    raise NotImplementedError("restore a backup instead")
