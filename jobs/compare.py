"""`rayembed compare`: all results of a folder on one page."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from actors.errors import FAILED, UserError
from actors.output.local_store import publish_file
from jobs.bench.results import Saved, read_folder
from jobs.report.comparison import render

_MOST_SAID = 20  # names on stderr; the page has more of them


@dataclass(frozen=True, slots=True)
class Drawn:
    """The page that was written, and what of the folder is on it."""

    page: Path
    saved: Saved

    def shown(self, as_json: bool) -> str:
        uri = self.page.absolute().as_uri()
        if as_json:
            skipped = {each.name: each.why for each in self.saved.skipped}
            return json.dumps({"report": uri, "results": list(self.saved.results), "skipped": skipped})
        count = len(self.saved.results)
        return f"report: {uri} ({count:,} result{'' if count == 1 else 's'})"


def compare(folder: Path, page: Path) -> Drawn:
    """Write `page` from what is in `folder`; whatever there is no result is named on stderr and on the page.

    Raises UserError when the folder cannot be read or the page not be written.
    """
    try:
        saved = read_folder(folder, besides=page.name)
    except FileNotFoundError:
        raise UserError(f"no folder {folder}: rayembed bench --mode both makes one, or name another") from None
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}; name another") from None
    for each in saved.skipped[:_MOST_SAID]:
        print(f"skipped {each.name!r}: {each.why}", file=sys.stderr)
    if len(saved.skipped) > _MOST_SAID:
        print(f"skipped {len(saved.skipped) - _MOST_SAID} more", file=sys.stderr)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        publish_file(page, render(saved, folder, datetime.now(UTC)))
    except OSError as error:
        raise UserError(f"cannot write {page}: {error.strerror or error}; choose another -o", FAILED) from None
    return Drawn(page, saved)
