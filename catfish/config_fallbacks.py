"""Well-known variables that other servers read, so that an existing environment or `.env` file works as it is.

They rank below the settings' own names and below the TOML file:

    PORT                                          port of the default address, which stays on loopback
    DATABASE_URL, else PG_URI                     database_url; parameters that only Prisma knows are taken out
    PROD_DATABASE_… (NODE_ENV=production), else DEV_DATABASE_…
                                                  database_url, from …URL, or from …HOST, …PORT, …USER (…USERNAME),
                                                  …PASSWORD and …NAME; used when neither of the two above is set
    REDIS_URL, else REDIS_HOST, REDIS_PORT, REDIS_TLS_ENABLED
                                                  redis_url
    JWT_SECRET                                    jwt_secret
    FRONTEND_URL                                  origins; several are separated by commas, a path is cut off
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

VARIABLES: Final = (
    "PORT",
    "DATABASE_URL",
    "PG_URI",
    "NODE_ENV",
    "PROD_DATABASE_",
    "DEV_DATABASE_",
    "REDIS_URL",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_TLS_ENABLED",
    "JWT_SECRET",
    "FRONTEND_URL",
)
"""Every variable that is read here, or its beginning; `docs/operations.md` lists the same."""

_PRISMA_PARAMETERS: Final = frozenset(
    ("schema", "connection_limit", "pool_timeout", "pgbouncer", "socket_timeout", "statement_cache_size", "sslaccept")
)
"""https://www.prisma.io/docs/orm/overview/databases/postgresql#arguments; libpq refuses a URL that has them."""


class Given(NamedTuple):
    """A value as a source gives it."""

    value: object
    """As it was written: text from flags and variables, typed from TOML."""
    origin: str
    """Such as "--port", "CATFISH_PORT", "port in catfish.toml"."""


def read(environment: Mapping[str, Given], problems: list[str]) -> dict[str, Given]:
    """Setting name -> value, for the variables that are set. Notes in `problems` what cannot be put together; whether
    the values are good ones is checked by the caller, as with those of the other sources."""
    settings = {
        "port": environment.get("PORT"),
        "database_url": _database_url(environment),
        "redis_url": _redis_url(environment, problems),
        "jwt_secret": environment.get("JWT_SECRET"),
        "origins": _origins(environment.get("FRONTEND_URL")),
    }
    return {name: given for name, given in settings.items() if given is not None}


def parse_truth(text: str) -> bool:
    """Raises ValueError for what is neither yes nor no."""
    lower = text.lower()
    if lower in ("true", "yes", "on", "1"):
        return True
    if lower in ("false", "no", "off", "0"):
        return False
    raise ValueError(text)


def _database_url(environment: Mapping[str, Given]) -> Given | None:
    for variable in ("DATABASE_URL", "PG_URI"):
        if variable in environment:
            return _without_prisma_parameters(environment[variable])
    production = "NODE_ENV" in environment and environment["NODE_ENV"].value == "production"
    prefix = "PROD_DATABASE_" if production else "DEV_DATABASE_"
    parts = {name.removeprefix(prefix): given for name, given in environment.items() if name.startswith(prefix)}
    if "URL" in parts:
        return _without_prisma_parameters(parts["URL"])
    if "HOST" not in parts:
        return None

    def part(*names: str) -> str:
        return next((quote(str(parts[name].value), safe="") for name in names if name in parts), "")

    user, password = part("USER", "USERNAME"), part("PASSWORD")
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    port = f":{part('PORT')}" if "PORT" in parts else ""
    return Given(f"postgresql://{login}{part('HOST')}{port}/{part('NAME')}", f"{parts['HOST'].origin} and its like")


def _without_prisma_parameters(given: Given) -> Given:
    try:
        url = urlsplit(str(given.value))
    except ValueError:
        return given
    parameters = parse_qsl(url.query, keep_blank_values=True)
    kept = [(name, value) for name, value in parameters if name not in _PRISMA_PARAMETERS]
    if len(kept) == len(parameters):
        return given
    schema = dict(parameters).get("schema", "public")
    if schema != "public":
        kept.append(("options", f"-csearch_path={schema}"))
    return given._replace(value=urlunsplit(url._replace(query=urlencode(kept, quote_via=quote))))


def _redis_url(environment: Mapping[str, Given], problems: list[str]) -> Given | None:
    if "REDIS_URL" in environment:
        return environment["REDIS_URL"]
    if "REDIS_HOST" not in environment:
        return None
    host = environment["REDIS_HOST"]
    port = environment.get("REDIS_PORT", Given("6379", ""))
    tls = environment.get("REDIS_TLS_ENABLED", Given("false", ""))
    try:
        scheme = "rediss" if parse_truth(str(tls.value)) else "redis"
    except ValueError:
        problems.append(f"{tls.origin} is {tls.value!r}; it must be true or false")
        return None
    if not str(port.value).isdecimal():
        problems.append(f"{port.origin} is {port.value!r}; it must be a port, 1 to 65535")
        return None
    return Given(f"{scheme}://{host.value}:{port.value}", host.origin)


def _origins(given: Given | None) -> Given | None:
    """Addresses of pages, as people write them, to origins: scheme, host and port (RFC 6454 section 4)."""
    if given is None:
        return None
    try:
        urls = [urlsplit(text.strip()) for text in str(given.value).split(",")]
    except ValueError:
        return given
    origins = tuple(f"{url.scheme}://{url.netloc}" if url.netloc else url.geturl() for url in urls)
    return given._replace(value=origins)
