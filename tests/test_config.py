"""Settings: their sources, their ranks, and what a wrong one gets to hear."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from catfish.config import FdBind, Settings, TcpBind, UnixBind, parse_bind
from catfish.config_fields import expected
from catfish.config_sources import FIELDS, Loaded, SettingsError, load, rows


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def load_in(
    directory: Path,
    *,
    toml: str | None = None,
    dotenv: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    config: Path | None = None,
    assignments: tuple[str, ...] = (),
) -> Loaded:
    if toml is not None:
        (directory / "catfish.toml").write_text(toml)
    if dotenv is not None:
        (directory / ".env").write_text(dotenv)
    return load(flags=flags, environ=environ or {}, assignments=assignments, config=config, directory=directory)


def problem_of(directory: Path, **sources: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_in(directory, **sources)
    (problem,) = caught.value.problems
    return problem


# Ranks


def test_without_any_source_everything_is_the_default(directory: Path) -> None:
    loaded = load_in(directory)
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.origins.keys() == FIELDS.keys()


def test_flags_beat_the_environment_that_beats_the_file_that_beats_fallbacks_that_beat_defaults(
    directory: Path,
) -> None:
    sources: dict[str, Any] = {
        "flags": {"jwt_secret": "flag"},
        "environ": {"CATFISH_JWT_SECRET": "environment", "JWT_SECRET": "fallback"},
        "toml": 'jwt_secret = "file"',
    }
    assert load_in(directory, **sources).settings.jwt_secret == "flag"
    sources["flags"] = {"jwt_secret": None}
    assert load_in(directory, **sources).settings.jwt_secret == "environment"
    del sources["environ"]["CATFISH_JWT_SECRET"]
    assert load_in(directory, **sources).settings.jwt_secret == "file"
    sources["toml"] = ""
    assert load_in(directory, **sources).settings.jwt_secret == "fallback"
    del sources["environ"]["JWT_SECRET"]
    assert load_in(directory, **sources).settings.jwt_secret is None


def test_the_origin_of_every_value_is_kept(directory: Path) -> None:
    loaded = load_in(
        directory,
        flags={"state_dir": "/var/lib/x"},
        environ={"CATFISH_WORKERS": "2", "JWT_SECRET": "s"},
        toml="grace_s = 3",
        dotenv="REDIS_URL=redis://r",
    )
    assert loaded.origins["state_dir"] == "--state-dir"
    assert loaded.origins["workers"] == "CATFISH_WORKERS"
    assert loaded.origins["jwt_secret"] == "JWT_SECRET"
    assert loaded.origins["grace_s"] == f"grace_s in {directory / 'catfish.toml'}"
    assert loaded.origins["redis_url"] == f"REDIS_URL in {directory / '.env'}"
    assert loaded.origins["lease_s"] == "default"


def test_a_variable_of_the_environment_beats_the_same_in_a_dotenv_file(directory: Path) -> None:
    dotenv = "# a comment\nexport CATFISH_WORKERS=2\nCATFISH_GRACE_S='4'\n"
    settings = load_in(directory, dotenv=dotenv, environ={"CATFISH_WORKERS": "3"}).settings
    assert (settings.workers, settings.grace_s) == (3, 4.0)


def test_an_empty_variable_is_one_that_is_not_set(directory: Path) -> None:
    assert load_in(directory, environ={"CATFISH_WORKERS": "", "PORT": ""}).settings == Settings()


def test_config_names_the_file_by_flag_or_variable(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("workers = 7")
    assert load_in(directory, toml="workers = 2", config=other).settings.workers == 7
    assert load_in(directory, environ={"CATFISH_CONFIG": str(other)}).settings.workers == 7


# Types


def test_each_type_is_read_from_text_and_from_toml(directory: Path) -> None:
    wanted = Settings(
        bind=("127.0.0.1:1", "[::1]:2"),
        workers=3,
        grace_s=0.5,
        deflate=False,
        state_dir=Path("/srv/catfish"),
        log_level="debug",
        jwt_secret="x",
        auth="required",
    )
    environ = {
        "CATFISH_BIND": "127.0.0.1:1, [::1]:2",
        "CATFISH_WORKERS": "3",
        "CATFISH_GRACE_S": "0.5",
        "CATFISH_DEFLATE": "off",
        "CATFISH_STATE_DIR": "/srv/catfish",
        "CATFISH_LOG_LEVEL": "DEBUG",
        "CATFISH_JWT_SECRET": "x",
        "CATFISH_AUTH": "required",
    }
    toml = """
        bind = ["127.0.0.1:1", "[::1]:2"]
        workers = 3
        grace_s = 0.5
        deflate = false
        state_dir = "/srv/catfish"
        log_level = "debug"
        jwt_secret = "x"
        auth = "required"
    """
    assert load_in(directory, environ=environ).settings == wanted
    assert load_in(directory, toml=toml).settings == wanted


def test_a_home_directory_is_filled_in(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_in(directory, flags={"state_dir": "~/chat"}).settings.state_dir == Path("/home/someone/chat")


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [
        ("workers", "two", "a whole number, 1 or more"),
        ("workers", "0", "a whole number, 1 or more"),
        ("workers", "1.5", "a whole number, 1 or more"),
        ("database_pool_max", "1", "a whole number, 3 or more"),
        ("deflate_bytes_min", "-1", "a whole number, 0 or more"),
        ("lease_s", "0", "a number above 0"),
        ("lease_s", "nan", "a number above 0"),
        ("lease_s", "inf", "a number above 0"),
        ("grace_s", "-0.1", "a number, 0 or more"),
        ("deflate", "maybe", "true or false"),
        ("auth", "closed", "open or required"),
        ("log_level", "loud", "debug or info or warning or error"),
        ("bind", "8080", "one or more of HOST:PORT"),
        ("bind", "127.0.0.1:65536", "one or more of HOST:PORT"),
        ("origins", "https://chat.example/", "origins such as https://chat.example"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_the_value_and_what_would_be_right(
    directory: Path, name: str, text: str, right: str
) -> None:
    variable = f"CATFISH_{name.upper()}"
    problem = problem_of(directory, environ={variable: text})
    assert problem.startswith(f"{variable} is {text!r}; it must be {right}")


@pytest.mark.parametrize(
    "line",
    [
        "workers = true",
        'workers = "2x"',
        "workers = 2.5",
        "deflate = 1",
        "state_dir = 4",
        "bind = 80",
        "bind = [1]",
        "auth = []",
    ],
)
def test_a_value_of_the_wrong_type_in_the_file_is_refused(directory: Path, line: str) -> None:
    name = line.split(" ")[0]
    problem = problem_of(directory, toml=line)
    assert problem.startswith(f"{name} in {directory / 'catfish.toml'} is ")
    assert problem.endswith(f"it must be {expected(FIELDS[name])}")


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.metadata["secret"]])
def test_the_value_of_a_secret_is_never_told(directory: Path, name: str) -> None:
    if FIELDS[name].metadata["form"]:
        environ = {f"CATFISH_{name.upper()}": "mysql://someone:pa55word@host/x"}
        assert "pa55word" not in problem_of(directory, environ=environ)
        wrong: dict[str, Any] = {name: "mysql://someone:pa55word@host/x"}
        with pytest.raises(ValueError) as caught:
            Settings(**wrong)
        assert "pa55word" not in str(caught.value)
    good = {
        "database_url": "postgresql://x:pa55word@h/d",
        "redis_url": "redis://:pa55word@h",
        "sentry_dsn": "https://pa55word@x/1",
    }.get(name, "pa55word")
    loaded = load_in(directory, environ={f"CATFISH_{name.upper()}": good})
    assert "pa55word" not in repr(loaded.settings)
    assert "pa55word" not in str(list(rows(loaded)))
    assert (name, "(set)", f"CATFISH_{name.upper()}") in list(rows(loaded))


def test_everything_wrong_is_told_at_once_also_where_another_source_overrides_it(directory: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_in(
            directory,
            flags={"workers": "2"},
            environ={"CATFISH_WORKERS": "none", "CATFISH_GRACE_S": "soon"},
            toml="lease = 3",
        )
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tls_key": Path("k")}, "tls_certificate and tls_key"),
        ({"auth": "required"}, "jwt_secret must be set"),
        ({"history_page_max": 10}, "history_page_default is 50"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(directory: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**settings)
    assert words in problem_of(directory, flags=settings)


def test_state_is_kept_where_the_user_s_programs_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert Settings().state_directory == Path("/home/someone/.local/state/catfish")
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/state")
    assert Settings().state_directory == Path("/srv/state/catfish")
    assert Settings(state_dir=Path("/x")).state_directory == Path("/x")


def test_every_setting_has_a_help_text_and_says_what_is_expected() -> None:
    for field in attrs.fields(Settings):
        assert field.metadata["help"].endswith(".")
        assert expected(field)


# Names


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("CATFISH_DATABSE_URL", "did you mean CATFISH_DATABASE_URL?"),
        ("CATFISH_WORKER", "did you mean CATFISH_WORKERS?"),
        ("CATFISH_PROT", "did you mean CATFISH_PORT?"),
        ("CATFISH_CONFG", "did you mean CATFISH_CONFIG?"),
        ("CATFISH_workers", "did you mean CATFISH_WORKERS?"),
        ("CATFISH_NOTHING", "`catfish config` lists them"),
    ],
)
def test_an_unknown_variable_of_ours_is_refused(directory: Path, variable: str, hint: str) -> None:
    assert problem_of(directory, environ={variable: "1"}) == f"{variable} is not a setting; {hint}"


def test_an_unknown_name_in_the_file_is_refused(directory: Path) -> None:
    problem = problem_of(directory, toml="grace = 3")
    assert problem == f"grace in {directory / 'catfish.toml'} is not a setting; did you mean grace_s?"
    assert "is not a setting" in problem_of(directory, toml="[server]\nworkers = 3")


def test_a_file_that_cannot_be_read_is_refused(directory: Path) -> None:
    assert "cannot be read" in problem_of(directory, config=directory / "missing.toml")
    assert "is not TOML" in problem_of(directory, toml="workers =")
    (directory / "catfish.toml").write_bytes(b"\xff")
    assert "cannot be read" in problem_of(directory)


def test_any_setting_can_be_set_by_assignment_but_no_secret(directory: Path) -> None:
    loaded = load_in(directory, assignments=("grace_s=3", "origins=a://b,c://d", "port=0"), environ={"PORT": "1"})
    assert (loaded.settings.grace_s, loaded.settings.origins) == (3.0, ("a://b", "c://d"))
    assert loaded.settings.bind == ("127.0.0.1:0",)
    assert loaded.origins["grace_s"] == "--set grace_s"
    assert problem_of(directory, assignments=("grace_s=-1",)).startswith("--set grace_s is '-1'; it must be")
    assert "did you mean grace_s?" in problem_of(directory, assignments=("grace=3",))
    assert "NAME=VALUE" in problem_of(directory, assignments=("grace_s",))
    problem = problem_of(directory, assignments=("api_key=pa55word",))
    assert "use CATFISH_API_KEY" in problem
    assert "pa55word" not in problem


# port


@pytest.mark.parametrize(
    "sources",
    [
        {"flags": {"port": "9000"}},
        {"environ": {"CATFISH_PORT": "9000"}},
        {"toml": "port = 9000"},
        {"environ": {"PORT": "9000"}},
    ],
)
def test_port_changes_the_port_of_the_default_address(directory: Path, sources: dict[str, Any]) -> None:
    loaded = load_in(directory, **sources)
    assert loaded.settings.bind == ("127.0.0.1:9000",)
    assert "port" in loaded.origins["bind"].lower()


def test_addresses_of_a_higher_rank_make_port_void(directory: Path) -> None:
    loaded = load_in(directory, environ={"CATFISH_PORT": "9000", "PORT": "1"}, flags={"bind": ("127.0.0.1:1",)})
    assert loaded.settings.bind == ("127.0.0.1:1",)
    assert load_in(directory, environ={"PORT": "1"}, toml='bind = ["[::1]:2"]').settings.bind == ("[::1]:2",)


def test_a_port_of_a_higher_rank_than_addresses_is_refused_rather_than_guessed(directory: Path) -> None:
    problem = problem_of(directory, flags={"port": "9000"}, environ={"CATFISH_BIND": "0.0.0.0:80"})
    assert problem == (
        "--port changes the port of the default address, but CATFISH_BIND names addresses;"
        " use bind in the place of port"
    )
    assert "exclude each other" in problem_of(directory, flags={"port": "1", "bind": ("127.0.0.1:1",)})


@pytest.mark.parametrize("port", ["-1", "65536", "http", "tcp://10.0.0.1:80"])
def test_a_bad_port_is_refused(directory: Path, port: str) -> None:
    assert problem_of(directory, environ={"PORT": port}) == f"PORT is {port!r}; it must be a port, 0 to 65535"
    assert "0 to 65535" in problem_of(directory, flags={"port": port})


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:0", TcpBind("127.0.0.1", 0)),
        ("localhost:8080", TcpBind("localhost", 8080)),
        ("[::1]:80", TcpBind("::1", 80)),
        ("[fe80::1%eth0]:80", TcpBind("fe80::1%eth0", 80)),
        ("unix:/run/a b.sock", UnixBind(Path("/run/a b.sock"))),
        ("fd:3", FdBind(3)),
    ],
)
def test_addresses_to_listen_on_are_parsed(text: str, bind: object) -> None:
    assert parse_bind(text) == bind


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "::1:80", "[::1]", "host:", "host:http", "unix:", "fd:", "fd:x", "a b:1"]
)
def test_what_is_no_address_to_listen_on_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_bind(text)


# Fallbacks


def database_url(directory: Path, **environ: str) -> str | None:
    return load_in(directory, environ=environ).settings.database_url


def test_database_url_then_pg_uri_then_the_parts_for_the_node_environment(directory: Path) -> None:
    environ = {
        "DATABASE_URL": "postgres://a/1",
        "PG_URI": "postgres://a/2",
        "PROD_DATABASE_HOST": "prod",
        "DEV_DATABASE_HOST": "dev",
        "NODE_ENV": "production",
    }
    assert database_url(directory, **environ) == "postgres://a/1"
    del environ["DATABASE_URL"]
    assert database_url(directory, **environ) == "postgres://a/2"
    del environ["PG_URI"]
    assert database_url(directory, **environ) == "postgresql://prod/"
    del environ["NODE_ENV"]
    assert database_url(directory, **environ) == "postgresql://dev/"


def test_a_database_url_is_put_together_from_its_parts(directory: Path) -> None:
    parts = {"HOST": "db", "PORT": "5433", "USERNAME": "chat", "PASSWORD": "p@ss/word", "NAME": "rooms"}
    environ = {f"PROD_DATABASE_{name}": value for name, value in parts.items()} | {"NODE_ENV": "production"}
    assert database_url(directory, **environ) == "postgresql://chat:p%40ss%2Fword@db:5433/rooms"
    assert database_url(directory, **environ, PROD_DATABASE_URL="postgres://x/y") == "postgres://x/y"
    assert database_url(directory, PROD_DATABASE_NAME="rooms", NODE_ENV="production") is None


def test_parameters_that_only_prisma_knows_are_taken_out(directory: Path) -> None:
    url = "postgresql://u:p%40@h:5432/d?"
    assert database_url(directory, DATABASE_URL=f"{url}schema=public") == "postgresql://u:p%40@h:5432/d"
    assert (
        database_url(directory, DATABASE_URL=f"{url}schema=chat&connection_limit=5&sslmode=require")
        == f"{url}sslmode=require&options=-csearch_path%3Dchat"
    )
    assert database_url(directory, DATABASE_URL=f"{url}sslmode=require") == f"{url}sslmode=require"


def test_a_fallback_that_is_no_postgres_url_is_refused_unless_it_is_not_needed(directory: Path) -> None:
    environ = {"DATABASE_URL": "mysql://root:pa55word@h/d"}
    problem = problem_of(directory, environ=environ)
    assert problem.startswith("DATABASE_URL is not shown, being secret; it must be a Postgres URL")
    environ["CATFISH_DATABASE_URL"] = "postgres://h/d"
    assert database_url(directory, **environ) == "postgres://h/d"


def test_redis_from_its_url_or_its_parts(directory: Path) -> None:
    def redis_url(**environ: str) -> str | None:
        return load_in(directory, environ=environ).settings.redis_url

    assert redis_url(REDIS_URL="redis://a", REDIS_HOST="b") == "redis://a"
    assert redis_url(REDIS_HOST="b") == "redis://b:6379"
    assert redis_url(REDIS_HOST="b", REDIS_PORT="1234", REDIS_TLS_ENABLED="true") == "rediss://b:1234"
    assert redis_url(REDIS_PORT="1234") is None
    assert "true or false" in problem_of(directory, environ={"REDIS_HOST": "b", "REDIS_TLS_ENABLED": "x"})
    assert "must be a port" in problem_of(directory, environ={"REDIS_HOST": "b", "REDIS_PORT": "x"})


def test_the_front_end_is_an_origin(directory: Path) -> None:
    def origins(url: str) -> tuple[str, ...]:
        return load_in(directory, environ={"FRONTEND_URL": url}).settings.origins

    assert origins("http://localhost:3000/") == ("http://localhost:3000",)
    assert origins("https://a.example/app?x=1, https://b.example") == ("https://a.example", "https://b.example")
    assert origins("*") == ("*",)
    assert "FRONTEND_URL is " in problem_of(directory, environ={"FRONTEND_URL": "chat.example"})
    assert "FRONTEND_URL is " in problem_of(directory, environ={"FRONTEND_URL": "http://[x"})
