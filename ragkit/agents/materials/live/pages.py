"""Fetch all records of a query page by page, with a cache of fetched pages.

After a failure the next call resumes at the page that failed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit import durable
from ragkit.agents.materials.live.http import RequestLimits, Service
from ragkit.agents.tools import ToolError
from ragkit.forks import ForkSafeLock

_FORMAT = 1
_MAX_FILE_BYTES = 256 * 2**20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _FetchedPage:
    """Page of records, and the total number of records if the server reports it."""

    records: list[Any]
    total: int | None


class Pages:
    """Fetches the records of queries and caches their pages in memory and optionally on disk.

    Args:
        service: Client of the API.
        limits: Page size and maximum number of records of a query.
        folder: Folder for cached pages as JSON files; those of other database versions are ignored.
    """

    def __init__(self, service: Service, limits: RequestLimits, folder: Path | None = None) -> None:
        self._service = service
        self._limits = limits
        self._folder = folder
        self._cached: dict[str, dict[int, _FetchedPage]] = {}
        self._lock = ForkSafeLock()
        self.version = ""

    def records(
        self, route: str, params: Mapping[str, str], *, page_size: int = 0, first: int = 0
    ) -> list[Any]:
        """Return the records of a query in the server's order.

        Args:
            route: Route such as "materials/summary/".
            params: Query parameters without those of paging.
            page_size: Number of records in a request; 0 uses the default.
            first: Maximum number of records; 0 returns all.

        Raises:
            ToolError: A page could not be fetched (the message reports the progress), or too many
                records match.
        """
        size = page_size or self._limits.page_size
        request = json.dumps(
            {"version": self.version, "route": route, "params": dict(params), "size": size},
            sort_keys=True,
        )
        records: list[Any] = []
        total: int | None = None
        while True:
            page = self._page(request, len(records), total)
            if total is not None and page.total != total:
                self._forget(request)
                raise ToolError(
                    f"the answer to /{route} changed from {total:,} to {page.total or 0:,} records "
                    "while it was read. Ask again."
                )
            total = page.total
            self._check_size(total if total is not None else len(records), first)
            records += page.records
            if first and len(records) >= first:
                return records[:first]
            if not page.records or (total is None and len(page.records) < size):
                break
            if total is not None and len(records) >= total:
                break
        if total is not None and len(records) < total:
            self._forget(request)
            raise ToolError(
                f"/{route} ended after {len(records):,} of {total:,} records. Ask again, or for "
                "less."
            )
        return records

    def _check_size(self, total: int, first: int) -> None:
        most = self._limits.max_records
        if not first and total > most:
            raise ToolError(
                f"{total:,} records match and at most {most:,} are fetched. Narrow it: a formula, "
                "a chemical system, elements, or a condition on a property."
            )

    def _page(self, request: str, skip: int, total: int | None) -> _FetchedPage:
        """Return the page at an offset from the cache, or fetch it under the lock."""
        with self._lock:
            cached_pages = self._cached.setdefault(request, {})
            if skip not in cached_pages:
                page = self._read(request, skip)
                if page is None:
                    page = self._fetch(request, skip, total)
                    self._write(request, skip, page)
                cached_pages[skip] = page
                self._evict(request)
            return cached_pages[skip]

    def _fetch(self, request: str, skip: int, total: int | None) -> _FetchedPage:
        parsed = json.loads(request)
        params = parsed["params"] | {"_limit": str(parsed["size"])}
        if skip:
            params["_skip"] = str(skip)
        try:
            answer = self._service.get(parsed["route"], params)
        except ToolError as error:
            if not skip:
                raise
            of_total = f" of {total:,}" if total is not None else ""
            raise ToolError(
                f"{error} {skip:,}{of_total} records are here already and kept: asking again "
                "fetches only the rest."
            ) from error
        records, meta = answer.get("data"), answer.get("meta")
        if not isinstance(records, list):
            raise ToolError(
                f"{self._service.host} answered /{parsed['route']} without a list of records. "
                "Its format may have changed: update ragkit, or use the snapshot."
            )
        total_doc = meta.get("total_doc") if isinstance(meta, dict) else None
        is_count = isinstance(total_doc, int) and not isinstance(total_doc, bool) and total_doc >= 0
        return _FetchedPage(records, total_doc if is_count else None)

    def _forget(self, request: str) -> None:
        with self._lock:
            for skip in self._cached.pop(request, {}):
                path = self._path(request, skip)
                if path is not None:
                    path.unlink(missing_ok=True)

    def _evict(self, request: str) -> None:
        """Evict the oldest queries while the cache exceeds five searches of maximum size."""

        def n_cached_records() -> int:
            return sum(
                len(page.records) for pages in self._cached.values() for page in pages.values()
            )

        while len(self._cached) > 1 and n_cached_records() > 5 * self._limits.max_records:
            oldest = next(cached for cached in self._cached if cached != request)
            del self._cached[oldest]

    def _path(self, request: str, skip: int) -> Path | None:
        """Return the cache file of a page, or None without a folder or a known version."""
        if self._folder is None or not self.version:
            return None
        name = hashlib.sha256(request.encode()).hexdigest()[:32]
        return self._folder / name / f"{skip:07d}.json"

    def _read(self, request: str, skip: int) -> _FetchedPage | None:
        path = self._path(request, skip)
        if path is None:
            return None
        try:
            page = json.loads(durable.read_small(path, _MAX_FILE_BYTES))
            if page["format"] == _FORMAT and page["request"] == json.loads(request):
                total = page["total"]
                if isinstance(page["records"], list) and isinstance(total, int | None):
                    return _FetchedPage(page["records"], total)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning(
                "cached page %s cannot be read and is fetched again: %s", path.name, error
            )
        return None

    def _write(self, request: str, skip: int, page: _FetchedPage) -> None:
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
            logger.warning("page %s is cached in memory only: %s", path.name, error)
