"""Fake server of the Materials Project's REST API, for tests.

It listens on the loopback address only, has the response format, error bodies and parameter checks
of the real API (of release 0.86 or 0.87, which writes ids in letters), and can simulate failures.
The ids of the named materials and the band gap of GaAs are real; most other numbers are invented.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from ragkit.agents.materials.chemistry.formulas import chemsys, parse_formula, reduced
from ragkit.agents.materials.chemistry.ids import canonical_id, letter_id
from ragkit.testing.materials_records import ROUTES, Documents, fingerprint_score, parameters

FaultKind = Literal[
    "error",
    "reset",
    "busy",
    "html",
    "garbage",
    "truncated",
    "hang",
    "drip",
    "huge",
    "redirect",
    "no_route",
]
_LETTER_IDS_SINCE = (0, 87)
_MAX_ELEMENT_CHARS = 60
_MAX_LIMIT = 1000
_DEFAULT_LIMIT = 100


@dataclass(slots=True)
class Fault:
    """Simulated failure.

    Attributes:
        kind: "error" is status 500, "busy" status 429; "hang" never responds, "drip" sends single
            bytes, "huge" never ends.
        after: Number of requests for records that succeed first.
        times: Number of requests that then fail.
        text: Retry-After header of "busy", target of "redirect", or detail of "error".
    """

    kind: FaultKind
    after: int = 0
    times: int = 1
    text: str = ""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """Received request.

    Attributes:
        route: Route, such as "/materials/summary/".
        params: Query parameters.
        key: X-API-KEY header.
        length: Length of path and query.
    """

    route: str
    params: Mapping[str, str]
    key: str
    length: int


class _ErrorResponse(Exception):
    """Error response with a status and a JSON body."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


class MaterialsProjectServer:
    """Fake API server, started and stopped as a context manager.

    Attributes:
        key: Accepted API key.
        documents: Mutable documents by route ("summary", "thermo", …).
        version: Version of the database.
        release: Release of the server: "0.86.4", or "0.87.0".
        seen: Requests for records received so far.
        faults: Failures to simulate, see `Fault`.

    >>> import httpx
    >>> with MaterialsProjectServer() as server:
    ...     headers = {"X-API-KEY": server.key}
    ...     url = f"{server.url}/materials/summary/?material_ids=mp-2534&_fields=band_gap"
    ...     httpx.get(url, headers=headers).json()["data"]
    [{'band_gap': 0.1861}]
    """

    def __init__(
        self, key: str = "0123456789abcdef0123456789abcdef", release: str = "0.86.4"
    ) -> None:
        self.key = key
        self.release = release
        self.documents = Documents()
        self.version = "2025.09.25"
        self.seen: list[ReceivedRequest] = []
        self.faults: list[Fault] = []
        self._server = _Listener(self)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Address of the server without a trailing slash."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> MaterialsProjectServer:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.released.set()
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join()

    def next_fault(self) -> Fault | None:
        """Return the fault of the current request, if any."""
        for fault in self.faults:
            if fault.after:
                fault.after -= 1
            elif fault.times:
                fault.times -= 1
                return fault
        return None

    def answer(self, route: str, params: Mapping[str, str]) -> dict[str, Any]:
        """Return the response to a request; raise for requests that the real server rejects."""
        if route == "/heartbeat":
            release = {"version": self.release, "db_version": self.version}
            return {"status": "OK", "access_controlled_batch_ids": [], **release}
        name = route.removeprefix("/materials/").strip("/")
        if route != f"/materials/{name}/" or name not in ROUTES:
            raise _ErrorResponse(404, {"detail": "Not Found"})
        numbers = tuple(int(part) for part in self.release.split("."))
        has_letter_ids = numbers >= _LETTER_IDS_SINCE
        known = parameters(name) | ({"id_format"} if has_letter_ids else set())
        unknown = [key for key in params if key not in known]
        if unknown:
            message = "Request contains query parameters which cannot be used: "
            raise _ErrorResponse(400, {"detail": message + ", ".join(unknown)})
        for key in ("elements", "exclude_elements"):
            if len(params.get(key, "")) > _MAX_ELEMENT_CHARS:
                entry = {"loc": ["query", key], "msg": "String should have at most 60 characters"}
                raise _ErrorResponse(422, {"detail": [{"type": "string_too_long", **entry}]})
        limit = _integer_parameter(params, "_limit", _DEFAULT_LIMIT)
        skip = _integer_parameter(params, "_skip", 0)
        if limit > (10 if name == "synthesis" else _MAX_LIMIT):
            message = "Requested more data per query than allowed by this endpoint. "
            raise _ErrorResponse(400, {"detail": f"{message}The max limit is {_MAX_LIMIT} entries"})
        documents = [document for document in self.documents[name] if _matches(document, params)]
        if name == "similarity/match":
            documents = fingerprint_score(documents, params)
        fields = params.get("_fields", "")
        data = [_select_fields(document, fields) for document in documents[skip : skip + limit]]
        if has_letter_ids and params.get("id_format") != "legacy":
            data = [_with_letter_ids(document) for document in data]
        meta = {
            "api_version": self.release,
            "time_stamp": "2026-01-01T00:00:00.000000",
            "total_doc": len(documents),
            "facet": None,
        }
        return {"data": data, "meta": meta}


def _integer_parameter(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name, str(default))
    if not text.isdigit():
        entry = {"loc": ["query", name], "msg": "Input should be a valid integer", "input": text}
        raise _ErrorResponse(422, {"detail": [{"type": "int_parsing", **entry}]})
    return int(text)


def _with_letter_ids(node: Any) -> Any:
    """Return a document with all ids in letters."""
    if isinstance(node, dict):
        return {key: _with_letter_ids(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_letter_ids(value) for value in node]
    is_id = isinstance(node, str) and canonical_id(node) == node and node.startswith("mp-")
    return letter_id(node) if is_id else node


def _select_fields(document: Any, fields: str) -> Any:
    if not fields or not isinstance(document, dict):
        return document
    wanted = fields.split(",")
    return {key: value for key, value in document.items() if key in wanted}


def _matches(document: Any, params: Mapping[str, str]) -> bool:
    """Return True if a document passes all filters; non-objects pass every filter."""
    if not isinstance(document, dict):
        return True
    return all(
        _passes_filter(document, name, value)
        for name, value in params.items()
        if not name.startswith(("_", "feature_vector", "id_format"))
    )


def _passes_filter(document: dict[str, Any], name: str, value: str) -> bool:
    values = value.split(",")
    if name in ("formula", "chemsys", "elements", "exclude_elements"):
        return _matches_composition(str(document.get("formula_pretty", "")), name, values)
    if name == "material_ids":
        return str(document.get("material_id")) in map(canonical_id, values)
    if name == "thermo_types":
        return document.get("thermo_type") in values
    if name == "has_props":
        return all(document["has_props"].get(name) for name in values)
    if name == "target_formula":
        return reduced(value) in [reduced(target) for target in document["targets_formula_s"]]
    if name == "keywords":
        return any(keyword.strip() in document["paragraph_string"] for keyword in values)
    bound = name.endswith(("_min", "_max"))
    actual = _document_value(document, name.rsplit("_", 1)[0] if bound else name)
    if bound:
        if not isinstance(actual, int | float):
            return False
        return actual >= float(value) if name.endswith("_min") else actual <= float(value)
    return str(actual).lower() == value.lower()


def _matches_composition(formula: str, name: str, values: list[str]) -> bool:
    if name == "formula":
        return reduced(formula) in {reduced(value) for value in values}
    if name == "chemsys":
        return chemsys(formula) in values
    if name == "elements":
        return set(values) <= set(parse_formula(formula))
    return not set(values) & set(parse_formula(formula))


def _document_value(document: dict[str, Any], name: str) -> Any:
    """Return the value of a document that a filter parameter is compared with."""
    renamed = {
        "elastic_anisotropy": "universal_anisotropy",
        "poisson": "homogeneous_poisson",
        "piezo_modulus": "e_ij_max",
    }
    modulus = {"k": "bulk_modulus", "g": "shear_modulus"}.get(name.partition("_")[0])
    if modulus and isinstance(document.get(modulus), dict):
        return document[modulus].get(name.partition("_")[2])
    if name in ("spacegroup_number", "crystal_system"):
        return document["symmetry"][name.removeprefix("spacegroup_")]
    return document.get(renamed.get(name, name))


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: MaterialsProjectServer) -> None:
        super().__init__(("127.0.0.1", 0), _RequestHandler)
        self.owner = owner
        self.released = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Ignore errors, since tests close connections on purpose."""


@dataclass(slots=True)
class _Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    missing: int = 0


class _RequestHandler(BaseHTTPRequestHandler):
    """Handler of one request."""

    server: _Listener

    def do_GET(self) -> None:
        owner = self.server.owner
        parts = urlsplit(self.path)
        params = dict(parse_qsl(parts.query, keep_blank_values=True))
        key = self.headers.get("X-API-KEY", "")
        fault = None
        if parts.path != "/heartbeat":
            owner.seen.append(ReceivedRequest(parts.path, params, key, len(self.path)))
            fault = owner.next_fault()
        if fault is not None and fault.kind in ("hang", "drip", "huge", "reset"):
            self._misbehave(fault.kind)
            return
        if key != owner.key and parts.path != "/heartbeat":
            self._send(_Response(401, b'{"message":"Invalid authentication credentials"}'))
            return
        try:
            body = json.dumps(owner.answer(parts.path, params)).encode()
            reply = _Response(200, body) if fault is None else _faulty_response(fault, body)
        except _ErrorResponse as problem:
            reply = _Response(problem.status, json.dumps(problem.body).encode())
        self._send(reply)

    def _misbehave(self, kind: FaultKind) -> None:
        if kind == "hang":
            self.server.released.wait(60)
        elif kind in ("drip", "huge"):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            with contextlib.suppress(OSError):
                while not self.server.released.wait(0.02 if kind == "drip" else 0):
                    self.wfile.write(b" " * (1 if kind == "drip" else 65536))
        else:
            linger = struct.pack("ii", 1, 0)  # closing then sends a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def _send(self, reply: _Response) -> None:
        with contextlib.suppress(OSError):
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) + reply.missing))
            self.end_headers()
            self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Disable logging."""


def _faulty_response(fault: Fault, body: bytes) -> _Response:
    """Return the response that a fault turns a valid body into."""
    page = b"<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"
    if fault.kind == "error":
        return _Response(
            500, json.dumps({"detail": fault.text or "Internal Server Error"}).encode()
        )
    if fault.kind == "busy":
        headers = {"Retry-After": fault.text} if fault.text else {}
        return _Response(429, b'{"message":"API rate limit exceeded"}', headers)
    if fault.kind == "html":
        return _Response(200, page, {"Content-Type": "text/html"})
    if fault.kind == "garbage":
        return _Response(200, b'{"data": [{"material_id": "mp-1", ]}')
    if fault.kind == "truncated":
        return _Response(200, body[: len(body) // 2], missing=len(body) - len(body) // 2)
    if fault.kind == "redirect":
        return _Response(307, b"", {"Location": fault.text})
    return _Response(404, b'{"detail":"Not Found"}')
