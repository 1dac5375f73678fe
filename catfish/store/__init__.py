"""Postgres: queries, migrations, and a private server for those who have none."""
