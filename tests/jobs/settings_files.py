"""Settings as a user writes them, and the one line that he gets about a mistake."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from actors.errors import USAGE, UserError
from jobs.settings import Settings, load_settings

SECRET = "sk-proj-AbC123/dEf+456=="


def load(tmp_path: Path, text: str | bytes, overrides: Mapping[str, object] | None = None) -> Settings:
    path = tmp_path / "c.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_settings(path, overrides or {})


def complaint(tmp_path: Path, text: str | bytes, overrides: Mapping[str, object] | None = None) -> str:
    """The one line that the user gets, without the folder of the file."""
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, overrides)
    assert caught.value.exit_code == USAGE
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return message.replace(f"{tmp_path}/", "")
