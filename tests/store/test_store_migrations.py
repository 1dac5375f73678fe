"""Migrations: each step once, in order, unchanged; and `schema.sql` says what they lead to."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from catfish.errors import StartError
from catfish.store import migrations

SCHEMA = migrations.PACKAGE.parent / "schema.sql"

DESCRIPTIONS = (
    """SELECT c.relname, c.relkind, c.reloptions, c.relpersistence, obj_description(c.oid)
       FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace""",
    """SELECT c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
              a.attgenerated, a.attstorage, a.attcollation::regcollation::text, pg_get_expr(d.adbin, d.adrelid),
              col_description(c.oid, a.attnum)
       FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
       LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
       WHERE c.relnamespace = 'public'::regnamespace""",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE connamespace = 'public'::regnamespace""",
    """SELECT sequencename, data_type::text, start_value, increment_by, cycle, cache_size FROM pg_sequences
       WHERE schemaname = 'public'""",
    """SELECT d.objid::regclass::text, d.refobjid::regclass::text, d.refobjsubid FROM pg_depend d
       JOIN pg_class c ON c.oid = d.objid WHERE c.relkind = 'S' AND d.deptype IN ('a', 'i')""",
    """SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal""",
    "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
    "SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace",
)


def describe(url: str) -> list[list[str]]:
    """Everything in the database that the catalogs know, but the record of migrations."""
    with psycopg.connect(url) as connection:
        rows = [connection.execute(query.encode()).fetchall() for query in DESCRIPTIONS]
    return [sorted(repr(row) for row in found if "catfish_migrations" not in repr(row)) for found in rows]


def step(number: int, sql: str = "SELECT 1", checksum: str | None = None) -> migrations.Migration:
    return migrations.Migration(number, f"step{number}", sql, checksum or f"sum{number}")


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_schema_sql_and_the_migrations_give_the_same_database(database_url: str, empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(SCHEMA.read_bytes())
    migrated, written = describe(database_url), describe(empty_database_url)
    assert sum(map(len, migrated)) > 100
    assert migrated == written


def test_every_step_is_applied_once(empty_database_url: str) -> None:
    known = migrations.load()
    assert migrations.status(empty_database_url) == migrations.Status([], known)
    with pytest.raises(StartError, match=r"pending: 0001 rooms.*catfish migrate.*--migrate"):
        migrations.check(empty_database_url)
    assert migrations.migrate(empty_database_url) == known
    assert migrations.status(empty_database_url) == migrations.Status(known, [])
    assert migrations.migrate(empty_database_url) == []
    migrations.check(empty_database_url)


def test_asking_for_the_status_changes_nothing(empty_database_url: str) -> None:
    migrations.status(empty_database_url)
    assert tables(empty_database_url) == set()


def test_one_may_stop_on_the_way_but_not_go_back(empty_database_url: str) -> None:
    steps = [step(number, f"CREATE TABLE t{number} ()") for number in (1, 2, 3)]
    assert migrations.migrate(empty_database_url, 2, steps) == steps[:2]
    assert migrations.status(empty_database_url, steps) == migrations.Status(steps[:2], steps[2:])
    with pytest.raises(StartError, match=r"only go forward"):
        migrations.migrate(empty_database_url, 1, steps)
    with pytest.raises(StartError, match=r"there is no migration 4"):
        migrations.migrate(empty_database_url, 4, steps)
    assert migrations.migrate(empty_database_url, 2, steps) == []
    assert migrations.migrate(empty_database_url, None, steps) == steps[2:]
    assert tables(empty_database_url) == {"catfish_migrations", "t1", "t2", "t3"}


def test_of_a_step_that_fails_nothing_stays(empty_database_url: str) -> None:
    steps = [
        step(1, "CREATE TABLE t1 ()"),
        step(2, "CREATE TABLE t2 (); INSERT INTO nowhere VALUES (1)"),
        step(3, "CREATE TABLE t3 ()"),
    ]
    with pytest.raises(StartError, match=r"0002 step2 failed, nothing of it was kept: .*nowhere"):
        migrations.migrate(empty_database_url, None, steps)
    assert tables(empty_database_url) == {"catfish_migrations", "t1"}
    assert migrations.status(empty_database_url, steps).pending == steps[1:]
    steps[1] = step(2, "CREATE TABLE t2 ()")
    assert migrations.migrate(empty_database_url, None, steps) == steps[1:]


def test_a_file_that_was_changed_after_it_ran_is_refused(empty_database_url: str) -> None:
    migrations.migrate(empty_database_url, None, [step(1), step(2)])
    changed = [step(1), step(2, checksum="another")]
    with pytest.raises(StartError, match=r"0002 step2 is not the one that was applied"):
        migrations.status(empty_database_url, changed)
    with pytest.raises(StartError, match=r"0002 step2 is not the one that was applied"):
        migrations.migrate(empty_database_url, None, changed)


def test_a_database_of_a_newer_server_is_refused(empty_database_url: str) -> None:
    migrations.migrate(empty_database_url, None, [step(1), step(2)])
    with pytest.raises(StartError, match=r"newer Catfish: it has migration 0002 step2, this one knows 0001"):
        migrations.status(empty_database_url, [step(1)])


def test_servers_that_start_together_apply_every_step_once(empty_database_url: str) -> None:
    steps = [step(number, f"CREATE TABLE t{number} ()") for number in (1, 2, 3)]
    applied: list[migrations.Migration] = []
    threads = [
        threading.Thread(target=lambda: applied.extend(migrations.migrate(empty_database_url, None, steps)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == steps


def test_files_are_counted_without_gaps(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"not installed completely"):
        migrations.load(tmp_path)
    (tmp_path / "0001_one.sql").write_text("SELECT 1")
    (tmp_path / "0003_three.sql").write_text("SELECT 3")
    with pytest.raises(StartError, match=r"0003_three.sql should be named 0002_"):
        migrations.load(tmp_path)
    (tmp_path / "0003_three.sql").rename(tmp_path / "0002_Two.sql")
    with pytest.raises(StartError, match=r"should be named"):
        migrations.load(tmp_path)
    (tmp_path / "0002_Two.sql").rename(tmp_path / "0002_two.sql")
    assert [each.title for each in migrations.load(tmp_path)] == ["0001 one", "0002 two"]


def test_a_database_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot be reached"):
        migrations.status(f"host={tmp_path} dbname=none")


def test_the_files_are_found_in_a_checkout_and_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert migrations.migrations_dir() == migrations.PACKAGE.parent / "migrations"
    package = tmp_path / "catfish"
    (package / "migrations").mkdir(parents=True)
    monkeypatch.setattr(migrations, "PACKAGE", package)
    assert migrations.migrations_dir() == package / "migrations"
