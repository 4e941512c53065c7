"""All records of a query, page by page; pages that were fetched are not fetched again.

A failure in the middle costs the page it hit: asking again goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit import durable
from ragkit.agents.materials.live.http import RequestLimits, Service
from ragkit.agents.tools import ToolError

_FORMAT = 1
_MAX_FILE_BYTES = 256 * 2**20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Slice:
    """Some records and how many the query has in all, if the server says."""

    records: list[Any]
    total: int | None


class Pages:
    """Fetches queries and keeps their pages, in memory and, given a folder, on disk.

    Args:
        service: Where they are fetched.
        limits: The size of a page and how many records a query may have.
        folder: For pages as JSON files; those of another database version are not used.
    """

    def __init__(self, service: Service, limits: RequestLimits, folder: Path | None = None) -> None:
        self._service = service
        self._limits = limits
        self._folder = folder
        self._held: dict[str, dict[int, _Slice]] = {}
        self._lock = threading.Lock()
        self.version = ""

    def records(
        self, route: str, params: Mapping[str, str], *, page_size: int = 0, first: int = 0
    ) -> list[Any]:
        """Every record of a query, in the server's order.

        Args:
            route: "materials/summary/".
            params: Of the query, without those of the page.
            page_size: Records a request; 0 takes the usual number.
            first: Stop after so many; 0 takes all.

        Raises:
            ToolError: A page failed (the message says how far it got), or there are too many.
        """
        size = page_size or self._limits.page_size
        request = json.dumps(
            {"version": self.version, "route": route, "params": dict(params), "size": size},
            sort_keys=True,
        )
        found: list[Any] = []
        total: int | None = None
        while True:
            page = self._page(request, len(found), total)
            if total is not None and page.total != total:
                self._forget(request)
                raise ToolError(
                    f"the answer to /{route} changed from {total:,} to {page.total or 0:,} records "
                    "while it was read. Ask again."
                )
            total = page.total
            self._check_size(total if total is not None else len(found), first)
            found += page.records
            if first and len(found) >= first:
                return found[:first]
            if not page.records or (total is None and len(page.records) < size):
                break
            if total is not None and len(found) >= total:
                break
        if total is not None and len(found) < total:
            self._forget(request)
            raise ToolError(
                f"/{route} ended after {len(found):,} of {total:,} records. Ask again, or for less."
            )
        return found

    def _check_size(self, total: int, first: int) -> None:
        most = self._limits.max_records
        if not first and total > most:
            raise ToolError(
                f"{total:,} records match and at most {most:,} are fetched. Narrow it: a formula, "
                "a chemical system, elements, or a condition on a property."
            )

    def _page(self, request: str, skip: int, total: int | None) -> _Slice:
        """The page that starts there; one is fetched at a time, so a second caller finds it."""
        with self._lock:
            held = self._held.setdefault(request, {})
            if skip not in held:
                page = self._read(request, skip)
                if page is None:
                    page = self._fetch(request, skip, total)
                    self._write(request, skip, page)
                held[skip] = page
                self._make_room(request)
            return held[skip]

    def _fetch(self, request: str, skip: int, total: int | None) -> _Slice:
        parsed = json.loads(request)
        params = parsed["params"] | {"_limit": str(parsed["size"])}
        if skip:
            params["_skip"] = str(skip)
        try:
            answer = self._service.get(parsed["route"], params)
        except ToolError as error:
            if not skip:
                raise
            of = f" of {total:,}" if total is not None else ""
            raise ToolError(
                f"{error} {skip:,}{of} records are here already and kept: asking again fetches "
                "only the rest."
            ) from error
        records, meta = answer.get("data"), answer.get("meta")
        if not isinstance(records, list):
            raise ToolError(
                f"{self._service.host} answered /{parsed['route']} without a list of records. "
                "Its format may have changed: update ragkit, or use the snapshot."
            )
        counted = meta.get("total_doc") if isinstance(meta, dict) else None
        known = isinstance(counted, int) and not isinstance(counted, bool) and counted >= 0
        return _Slice(records, counted if known else None)

    def _forget(self, request: str) -> None:
        with self._lock:
            for skip in self._held.pop(request, {}):
                path = self._path(request, skip)
                if path is not None:
                    path.unlink(missing_ok=True)

    def _make_room(self, request: str) -> None:
        """Drop the pages of the oldest queries while five full searches are held."""

        def held() -> int:
            return sum(len(page.records) for kept in self._held.values() for page in kept.values())

        while len(self._held) > 1 and held() > 5 * self._limits.max_records:
            oldest = next(each for each in self._held if each != request)
            del self._held[oldest]

    def _path(self, request: str, skip: int) -> Path | None:
        """The page's file; None without a folder or a version to tell old pages by."""
        if self._folder is None or not self.version:
            return None
        name = hashlib.sha256(request.encode()).hexdigest()[:32]
        return self._folder / name / f"{skip:07d}.json"

    def _read(self, request: str, skip: int) -> _Slice | None:
        path = self._path(request, skip)
        if path is None:
            return None
        try:
            page = json.loads(durable.read_small(path, _MAX_FILE_BYTES))
            if page["format"] == _FORMAT and page["request"] == json.loads(request):
                total = page["total"]
                if isinstance(page["records"], list) and isinstance(total, int | None):
                    return _Slice(page["records"], total)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("the page %s cannot be read and is fetched again: %s", path.name, error)
        return None

    def _write(self, request: str, skip: int, page: _Slice) -> None:
        path = self._path(request, skip)
        if path is None:
            return
        text = json.dumps(
            {
                "format": _FORMAT,
                "request": json.loads(request),
                "total": page.total,
                "records": page.records,
            }
        )
        try:
            durable.make_folder(path.parent)
            durable.replace_text(path, text)
        except OSError as error:
            logger.warning("the page %s is kept in memory only: %s", path.name, error)
