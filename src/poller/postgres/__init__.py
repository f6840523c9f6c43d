"""All that speaks to Postgres."""
