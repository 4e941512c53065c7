"""A small stand-in for the Materials Project's REST API: for tests of agents, yours and ours.

It listens on the loopback address only, answers in the real API's shapes (envelope, error bodies,
parameter checks of the release that `live_http` names) and fails in every way on request. The ids
of the named materials and the band gap of GaAs are real; most other numbers are made up.
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
_RELEASE = "0.86.4"
_MAX_LIMIT = 1000
_DEFAULT_LIMIT = 100


@dataclass(slots=True)
class Fault:
    """A failure to come.

    Attributes:
        kind: "error" is a status 500, "busy" a 429; "hang" never answers, "drip" a byte at a time;
            "huge" does not end.
        after: How many requests for records are answered first.
        times: How many then fail.
        text: For "busy" the header Retry-After, for "redirect" the target, for "error" the detail.
    """

    kind: FaultKind
    after: int = 0
    times: int = 1
    text: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came.

    Attributes:
        route: "/materials/summary/".
        params: Of the query.
        key: The X-API-KEY header.
        length: Of path and query.
    """

    route: str
    params: Mapping[str, str]
    key: str
    length: int


class _Problem(Exception):
    """A refusal with a status and a body."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


class MaterialsProjectServer:
    """The server; a context manager that starts and stops it.

    Attributes:
        key: The one it accepts.
        documents: What it holds, by route ("summary", "thermo", …); change it as you like.
        version: Of its database.
        seen: The requests for records so far.
        faults: Failures to come, see `Fault`.

    >>> import httpx
    >>> with MaterialsProjectServer() as server:
    ...     headers = {"X-API-KEY": server.key}
    ...     url = f"{server.url}/materials/summary/?material_ids=mp-2534&_fields=band_gap"
    ...     httpx.get(url, headers=headers).json()["data"]
    [{'band_gap': 0.1861}]
    """

    def __init__(self, key: str = "0123456789abcdef0123456789abcdef") -> None:
        self.key = key
        self.documents = Documents()
        self.version = "2025.09.25"
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self._server = _Listener(self)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
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

    def due(self) -> Fault | None:
        """The fault that the present request runs into."""
        for fault in self.faults:
            if fault.after:
                fault.after -= 1
            elif fault.times:
                fault.times -= 1
                return fault
        return None

    def answer(self, route: str, params: Mapping[str, str]) -> dict[str, Any]:
        """The envelope for a request; raises for what the real server refuses."""
        if route == "/heartbeat":
            release = {"version": _RELEASE, "db_version": self.version}
            return {"status": "OK", "access_controlled_batch_ids": [], **release}
        name = route.removeprefix("/materials/").strip("/")
        if route != f"/materials/{name}/" or name not in ROUTES:
            raise _Problem(404, {"detail": "Not Found"})
        unknown = [each for each in params if each not in parameters(name)]
        if unknown:
            said = "Request contains query parameters which cannot be used: "
            raise _Problem(400, {"detail": said + ", ".join(unknown)})
        limit = _whole(params, "_limit", _DEFAULT_LIMIT)
        skip = _whole(params, "_skip", 0)
        if limit > (10 if name == "synthesis" else _MAX_LIMIT):
            said = "Requested more data per query than allowed by this endpoint. "
            raise _Problem(400, {"detail": f"{said}The max limit is {_MAX_LIMIT} entries"})
        found = [each for each in self.documents[name] if _matches(each, params)]
        if name == "similarity/match":
            found = fingerprint_score(found, params)
        fields = params.get("_fields", "")
        data = [_projected(each, fields) for each in found[skip : skip + limit]]
        meta = {
            "api_version": _RELEASE,
            "time_stamp": "2026-01-01T00:00:00.000000",
            "total_doc": len(found),
            "facet": None,
        }
        return {"data": data, "meta": meta}


def _whole(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name, str(default))
    if not text.isdigit():
        entry = {"loc": ["query", name], "msg": "Input should be a valid integer", "input": text}
        raise _Problem(422, {"detail": [{"type": "int_parsing", **entry}]})
    return int(text)


def _projected(document: Any, fields: str) -> Any:
    if not fields or not isinstance(document, dict):
        return document
    wanted = fields.split(",")
    return {key: value for key, value in document.items() if key in wanted}


def _matches(document: Any, params: Mapping[str, str]) -> bool:
    """Whether a document passes every filter; one that is no object passes all."""
    if not isinstance(document, dict):
        return True
    return all(
        _passes(document, name, value)
        for name, value in params.items()
        if not name.startswith(("_", "feature_vector"))
    )


def _passes(document: dict[str, Any], name: str, value: str) -> bool:
    listed = value.split(",")
    if name in ("formula", "chemsys", "elements", "exclude_elements"):
        return _composed(str(document.get("formula_pretty", "")), name, listed)
    if name in ("material_ids", "thermo_types"):
        return document.get(name.removesuffix("s")) in listed
    if name == "has_props":
        return all(document["has_props"].get(each) for each in listed)
    if name == "target_formula":
        return reduced(value) in [reduced(each) for each in document["targets_formula_s"]]
    if name == "keywords":
        return any(each.strip() in document["paragraph_string"] for each in listed)
    bound = name.endswith(("_min", "_max"))
    held = _held(document, name.rsplit("_", 1)[0] if bound else name)
    if bound:
        if not isinstance(held, int | float):
            return False
        return held >= float(value) if name.endswith("_min") else held <= float(value)
    return str(held).lower() == value.lower()


def _composed(formula: str, name: str, listed: list[str]) -> bool:
    if name == "formula":
        return reduced(formula) in {reduced(each) for each in listed}
    if name == "chemsys":
        return chemsys(formula) in listed
    if name == "elements":
        return set(listed) <= set(parse_formula(formula))
    return not set(listed) & set(parse_formula(formula))


def _held(document: dict[str, Any], name: str) -> Any:
    """What a filter's parameter is compared with."""
    own = {
        "elastic_anisotropy": "universal_anisotropy",
        "poisson": "homogeneous_poisson",
        "piezo_modulus": "e_ij_max",
    }
    modulus = {"k": "bulk_modulus", "g": "shear_modulus"}.get(name.partition("_")[0])
    if modulus and isinstance(document.get(modulus), dict):
        return document[modulus].get(name.partition("_")[2])
    if name in ("spacegroup_number", "crystal_system"):
        return document["symmetry"][name.removeprefix("spacegroup_")]
    return document.get(own.get(name, name))


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: MaterialsProjectServer) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.owner = owner
        self.released = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Nothing: clients of this server hang up on purpose."""


@dataclass(slots=True)
class _Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    missing: int = 0


class _Exchange(BaseHTTPRequestHandler):
    """One request."""

    server: _Listener

    def do_GET(self) -> None:
        owner = self.server.owner
        parts = urlsplit(self.path)
        params = dict(parse_qsl(parts.query, keep_blank_values=True))
        key = self.headers.get("X-API-KEY", "")
        fault = None
        if parts.path != "/heartbeat":
            owner.seen.append(Seen(parts.path, params, key, len(self.path)))
            fault = owner.due()
        if fault is not None and fault.kind in ("hang", "drip", "huge", "reset"):
            self._misbehave(fault.kind)
            return
        if key != owner.key and parts.path != "/heartbeat":
            self._send(_Reply(401, b'{"message":"Invalid authentication credentials"}'))
            return
        try:
            body = json.dumps(owner.answer(parts.path, params)).encode()
            reply = _Reply(200, body) if fault is None else _failure(fault, body)
        except _Problem as problem:
            reply = _Reply(problem.status, json.dumps(problem.body).encode())
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

    def _send(self, reply: _Reply) -> None:
        with contextlib.suppress(OSError):
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) + reply.missing))
            self.end_headers()
            self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def _failure(fault: Fault, body: bytes) -> _Reply:
    """What a fault makes of an answer."""
    page = b"<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"
    if fault.kind == "error":
        return _Reply(500, json.dumps({"detail": fault.text or "Internal Server Error"}).encode())
    if fault.kind == "busy":
        headers = {"Retry-After": fault.text} if fault.text else {}
        return _Reply(429, b'{"message":"API rate limit exceeded"}', headers)
    if fault.kind == "html":
        return _Reply(200, page, {"Content-Type": "text/html"})
    if fault.kind == "garbage":
        return _Reply(200, b'{"data": [{"material_id": "mp-1", ]}')
    if fault.kind == "truncated":
        return _Reply(200, body[: len(body) // 2], missing=len(body) - len(body) // 2)
    if fault.kind == "redirect":
        return _Reply(307, b"", {"Location": fault.text})
    return _Reply(404, b'{"detail":"Not Found"}')
