"""docs/operations.md lists every setting as the code has it.

After a change of the settings, `python tests/test_docs_settings.py` writes the table anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs

from catfish.config import Settings
from catfish.config_fallbacks import VARIABLES
from catfish.config_fields import expected

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
BEGIN, END = "<!-- settings: written by tests/test_docs_settings.py -->\n", "<!-- end of the settings -->\n"


def settings_table() -> str:
    rows = ["| setting | what it is | must be | default |", "| --- | --- | --- | --- |"]
    for field in attrs.fields(Settings):
        secret = " Secret." if field.metadata["secret"] else ""
        cells = (f"`{field.name}`", field.metadata["help"] + secret, expected(field), default_of(field))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def default_of(field: attrs.Attribute[Any]) -> str:
    if field.default in (None, ()):
        return "none"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    if isinstance(field.default, tuple):
        return ", ".join(f"`{value}`" for value in field.default)
    return f"{field.default:_}" if isinstance(field.default, int) else f"{field.default}"


def with_table(text: str) -> str:
    before, rest = text.split(BEGIN)
    return before + BEGIN + settings_table() + END + rest.split(END)[1]


def test_the_table_of_settings_is_what_the_code_has() -> None:
    text = GUIDE.read_text("utf-8")
    assert with_table(text) == text, "write it anew: python tests/test_docs_settings.py"


def test_the_guide_names_every_variable_of_other_servers_that_is_read() -> None:
    named = set(re.findall(r"`([A-Z_…]+)`", GUIDE.read_text("utf-8").replace("…", "")))
    assert set(VARIABLES) <= named


def test_variables_and_options_in_the_guide_exist() -> None:
    text = GUIDE.read_text("utf-8")
    names = {field.name for field in attrs.fields(Settings)} | {"config", "port"}
    assert {name.lower() for name in re.findall(r"CATFISH_([A-Z_]+)", text)} <= names


if __name__ == "__main__":
    GUIDE.write_text(with_table(GUIDE.read_text("utf-8")), "utf-8")
