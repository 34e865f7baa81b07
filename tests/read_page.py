from __future__ import annotations

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class ReadPage(HTMLParser):
    """What a browser finds in a page: its tags, the cells of its rows, its scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.rows: list[list[str]] = []
        self.attributes: list[dict[str, str | None]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.header: list[str] = []
        self._within = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self._within = tag
        if tag == "tr":
            self.rows.append([])
            self.attributes.append(dict(attrs))
        elif tag == "th":
            self.header.append("")
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "td":
            self.rows[-1][-1] += data
        elif self._within == "button":
            self.header[-1] += data
        elif self._within == "script":
            self.scripts[-1] += data
        else:
            self.text += data

    @property
    def views(self) -> list[dict[str, Any]]:
        return json.loads(self.scripts[0])
