"""Where settings come from: flags, then the environment, then a TOML file, then well-known variables, then defaults.

Each source is read into a layer, a mapping from the setting's name to the value as it was written and its origin. The
topmost layer that names a setting wins, and its origin is kept for `catfish config`. Everything wrong is collected, so
that one start tells all of it: every value of our own sources must be good, also one that another source overrides.

`port` is not a setting: it is another way to write `bind`, and changes the port of the default address.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import attrs
import cattrs
import dotenv

from catfish import config_fallbacks
from catfish.config import DEFAULT_HOST, Settings
from catfish.config_fallbacks import Given, parse_truth
from catfish.config_fields import expected, plain_type

PREFIX: Final = "CATFISH_"
CONFIG_VARIABLE: Final = "CATFISH_CONFIG"
"""Names the TOML file, as `--config` does."""
FILE_NAME: Final = "catfish.toml"
DOTENV_NAME: Final = ".env"

FIELDS: Final[Mapping[str, attrs.Attribute[Any]]] = {field.name: field for field in attrs.fields(Settings)}
NAMES: Final = (*FIELDS, "port")


class SettingsError(Exception):
    """The settings are wrong; nothing was started. `problems` are sentences, without the values of secrets."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


Layer = Mapping[str, Given]


@attrs.frozen
class Loaded:
    settings: Settings
    origins: Mapping[str, str]
    """For every setting where its value came from; "default" when nobody named it."""


def load(
    *,
    flags: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
    directory: Path | None = None,
) -> Loaded:
    """Read every source and decide.

    Args:
        flags: setting name -> value for the flags that were given; None values are flags that were not.
        assignments: NAME=VALUE, as `--set` takes them.
        environ: the environment; by default the process's own.
        config: the TOML file; by default what `CATFISH_CONFIG` names, else `catfish.toml` when there is one.
        directory: where `catfish.toml` and `.env` are looked for; by default the working directory.

    Raises:
        SettingsError: something is unknown, unreadable or not a good value.
    """
    directory = directory or Path()
    environment = read_environment(directory, os.environ if environ is None else environ)
    problems: list[str] = []
    ours = [
        _flags_layer(flags or {}, assignments, problems),
        _environment_layer(environment, problems),
        _file_layer(config or _config_path(environment), directory, problems),
    ]
    for layer in ours:
        _check_layer(layer, problems)
    fallbacks = config_fallbacks.read(environment, problems)
    _raise(problems)

    chosen: dict[str, Given] = {}
    for layer in reversed([*ours, fallbacks]):
        chosen |= layer
    port = chosen.pop("port", None)
    if port is not None:
        _apply_port(port, chosen, [*ours, fallbacks], problems)

    values = {name: _structure(name, given, problems) for name, given in chosen.items()}
    _raise(problems)
    try:
        settings = Settings(**values)
    except ValueError as error:
        raise SettingsError([str(error)]) from None
    return Loaded(settings, {name: chosen[name].origin if name in chosen else "default" for name in FIELDS})


def read_environment(directory: Path, environ: Mapping[str, str]) -> dict[str, Given]:
    """The variables that are set to something; those of a `.env` file count where the environment has none."""
    path = directory / DOTENV_NAME
    try:
        beside = dotenv.dotenv_values(path, interpolate=False) if path.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path} cannot be read: {error}"]) from None
    given = {name: Given(value, f"{name} in {path}") for name, value in beside.items() if value}
    return given | {name: Given(value, name) for name, value in environ.items() if value}


def _config_path(environment: Mapping[str, Given]) -> str | None:
    return str(environment[CONFIG_VARIABLE].value) if CONFIG_VARIABLE in environment else None


def _flags_layer(flags: Mapping[str, Any], assignments: Sequence[str], problems: list[str]) -> Layer:
    layer = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or name not in NAMES:
            problems.append(f"--set {name} is not NAME=VALUE of a setting{_did_you_mean(name, NAMES)}")
        elif name in FIELDS and FIELDS[name].metadata["secret"]:
            problems.append(
                f"--set {name} would show a secret to every user; use {PREFIX}{name.upper()} or {FILE_NAME}"
            )
        else:
            layer[name] = Given(value, f"--set {name}")
    for name, value in flags.items():
        if value is not None:
            layer[name] = Given(value, f"--{name.replace('_', '-')}")
    return layer


def _environment_layer(environment: Mapping[str, Given], problems: list[str]) -> Layer:
    layer = {}
    for variable, given in environment.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if variable.isupper() and name in NAMES:
            layer[name] = given
        else:
            problems.append(f"{given.origin} is not a setting{_did_you_mean(name, (*NAMES, 'config'), PREFIX)}")
    return layer


def _file_layer(config: Path | str | None, directory: Path, problems: list[str]) -> Layer:
    path = directory / FILE_NAME if config is None else Path(config).expanduser()
    if config is None and not path.exists():
        return {}
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path} cannot be read: {error}")
        return {}
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path} is not TOML: {error}")
        return {}
    for name in table.keys() - set(NAMES):
        problems.append(f"{name} in {path} is not a setting{_did_you_mean(name, NAMES)}")
    return {name: Given(value, f"{name} in {path}") for name, value in table.items() if name in NAMES}


def _did_you_mean(name: str, known: Sequence[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if not close:
        return "; `catfish config` lists them"
    return f"; did you mean {prefix}{close[0].upper() if prefix else close[0]}?"


def _check_layer(layer: Layer, problems: list[str]) -> None:
    for name, given in layer.items():
        if name == "port":
            _structure_port(given, problems)
        else:
            _structure(name, given, problems)
    if "port" in layer and "bind" in layer:
        problems.append(
            f"{layer['port'].origin} and {layer['bind'].origin} exclude each other; give the one or the other"
        )


def _apply_port(port: Given, chosen: dict[str, Given], layers: Sequence[Layer], problems: list[str]) -> None:
    """Make `port` a `bind`, unless a source of at least its rank names addresses."""
    rank = next(rank for rank, layer in enumerate(layers) if "port" in layer)
    bind_rank = next((rank for rank, layer in enumerate(layers) if "bind" in layer), None)
    if bind_rank is None:
        number = _structure_port(port, problems)
        chosen["bind"] = Given((f"{DEFAULT_HOST}:{number}",), port.origin)
    elif bind_rank > rank:
        problems.append(
            f"{port.origin} changes the port of the default address, but {chosen['bind'].origin} names addresses;"
            " use bind in the place of port"
        )


def _structure_port(given: Given, problems: list[str]) -> int:
    try:
        number = _whole_number(given.value)
        if not 0 <= number <= 65_535:
            raise ValueError
    except ValueError:
        problems.append(f"{given.origin} is {given.value!r}; it must be a port, 0 to 65535")
        return 0
    return number


def _structure(name: str, given: Given, problems: list[str]) -> Any:
    """Turn a value as it was written into a good value of the setting, or note a problem."""
    field = FIELDS[name]
    try:
        value = _converter.structure(given.value, plain_type(field))
        if field.validator is not None:
            field.validator(None, field, value)
    except ValueError:
        shown = "not shown, being secret" if field.metadata["secret"] else repr(given.value)
        problems.append(f"{given.origin} is {shown}; it must be {expected(field)}")
        return field.default
    return value


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))


# How text and TOML values become the types of settings. A hook raises ValueError; the caller says what is expected.


def _whole_number(value: Any, _: object = int) -> int:
    if isinstance(value, str):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError


def _number(value: Any, _: object) -> float:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return float(value)
    raise ValueError


def _truth(value: Any, _: object) -> bool:
    if isinstance(value, str):
        return parse_truth(value)
    if isinstance(value, bool):
        return value
    raise ValueError


def _text(value: Any, _: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError


def _texts(value: Any, _: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, (list, tuple)) and all(isinstance(part, str) for part in parts):
        return tuple(part.strip() for part in parts if part.strip())
    raise ValueError


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _choice(value: Any, kind: Any) -> Any:
    choice = value.lower() if isinstance(value, str) else value
    if choice not in get_args(kind):
        raise ValueError
    return choice


def _path(value: Any, _: object) -> Path:
    return Path(_text(value if not isinstance(value, Path) else str(value), str)).expanduser()


_converter: Final = cattrs.Converter(detailed_validation=False)
_converter.register_structure_hook(int, _whole_number)
_converter.register_structure_hook(float, _number)
_converter.register_structure_hook(bool, _truth)
_converter.register_structure_hook(str, _text)
_converter.register_structure_hook(Path, _path)
_converter.register_structure_hook_func(lambda kind: kind == tuple[str, ...], _texts)
_converter.register_structure_hook_func(_is_literal, _choice)


def rows(loaded: Loaded) -> Iterator[tuple[str, Any, str]]:
    """(name, value, origin) of every setting, for people; a secret's value is only "(set)"."""
    for name, field in FIELDS.items():
        value = getattr(loaded.settings, name)
        if field.metadata["secret"] and value not in (None, ()):
            value = "(set)"
        elif isinstance(value, Path):
            value = str(value)
        yield name, value, loaded.origins[name]
