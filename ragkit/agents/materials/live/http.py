"""One request to the Materials Project's REST API: key, pace, retries, limits, failures in words.

This speaks to the documented routes with httpx instead of building on mp-api 0.46.5, measured in an
empty environment: 65 packages and 990 MB (pyarrow, deltalake, boto3, pandas, plotly), 2.5 to 3.6 s
to import. Its public interface has no paging that can be resumed (every route but summary hides
the page), loses a whole answer to one invalid document unless validation is off altogether, sends
5,000 ids as a URL of 49 kB, and hands the key to any host a redirect names; 0.46.5 also sends the
upper bound of a bulk modulus as one of the shear modulus.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from ragkit import models
from ragkit.agents.tools import ToolError

ENDPOINT = "https://api.materialsproject.org"
# The server release whose routes and fields this was written for.
KNOWN_RELEASE = "0.86"
KEY_PAGE = "https://next-gen.materialsproject.org/api"
_MAX_URL = 6000
_MAX_HOPS = 3


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request, and one search, may take.

    Attributes:
        timeout_s: For a request, from connecting to the last byte.
        tries: How often a request is sent before it has failed.
        max_wait_s: For all waiting between the tries of one request; a tool has 20 s in all.
        page_size: Records a request asks for; the server allows 1,000.
        max_records: Records a search may fetch; more ask for a narrower filter.
        max_bytes: Of an answer, after decompression.
    """

    timeout_s: float = 15.0
    tries: int = 3
    max_wait_s: float = 10.0
    page_size: int = 1000
    max_records: int = 20_000
    max_bytes: int = 64 * 2**20


class Pace:
    """A token bucket: at most so many requests a second, and as many at once.

    The Materials Project allows 25 a second and 1,000 a minute.

    Args:
        requests_per_s: The rate, and the size of the bucket.
        clock: Seconds that only grow.
        sleep: Waits for so many seconds.

    >>> now = [0.0]
    >>> pace = Pace(2, clock=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    >>> for _ in range(4):
    ...     pace.wait()
    >>> now
    [1.0]
    """

    def __init__(
        self,
        requests_per_s: float = 15.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not requests_per_s > 0:
            raise ValueError(f"requests_per_s must be above 0, not {requests_per_s}")
        self._rate = requests_per_s
        self._clock = clock
        self.sleep = sleep
        self._tokens = max(requests_per_s, 1.0)
        self._filled_at = clock()

    def wait(self) -> None:
        """Return when the next request may be sent."""
        now = self._clock()
        capacity = max(self._rate, 1.0)
        self._tokens = min(capacity, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            needed = (1 - self._tokens) / self._rate
            self.sleep(needed)
            self._tokens = 1.0
            self._filled_at = self._clock()
        self._tokens -= 1


class _Transient(Exception):
    """A failure that may pass; `wait_s` is what the server asks to wait."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Service:
    """The REST API at an address, with a key.

    Args:
        api_key: From the Materials Project; sent as X-API-KEY, shown nowhere.
        endpoint: Its address: https, or http on this machine.
        limits: What a request may take.
        pace: Spaces the requests and waits between tries.

    Raises:
        ValueError: The address is none that a key may be sent to.
        ToolError: There is no key.
    """

    def __init__(
        self, api_key: str | None, endpoint: str, limits: RequestLimits, pace: Pace
    ) -> None:
        url = _checked(endpoint)
        self._on_this_machine = _is_loopback(url.host)
        self.host = url.host
        self._check_online()
        self._key = _found_key(api_key)
        self._limits = limits
        self._pace = pace
        self.url = str(url).rstrip("/")
        self.release = ""
        self._client = httpx.Client(
            timeout=httpx.Timeout(limits.timeout_s, connect=min(limits.timeout_s, 10.0)),
            follow_redirects=False,
            trust_env=not self._on_this_machine,
            verify=url.scheme == "https",  # loading the certificates takes a quarter of a second
            headers={"Accept": "application/json", "User-Agent": "ragkit"},
        )

    def __repr__(self) -> str:
        return f"Service({self.url!r})"

    def _check_online(self) -> None:
        if models.offline() and not self._on_this_machine:
            raise ToolError(
                f"RAGKIT_OFFLINE is set, so {self.host} is not asked. Unset it, or use the "
                "snapshot that ragkit brings."
            )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, route: str, params: Mapping[str, str]) -> dict[str, Any]:
        """The JSON object that a route answers with.

        Args:
            route: "materials/summary/".
            params: Of the query; lists as comma-separated text.

        Raises:
            ToolError: The network is switched off, or the request failed for good.
        """
        self._check_online()
        waited = 0.0
        attempt = 0
        while True:
            attempt += 1
            self._pace.wait()
            try:
                return self._once(route, params)
            except _Transient as error:
                wait_s = error.wait_s if error.wait_s is not None else 0.5 * 2 ** (attempt - 1)
                if attempt >= self._limits.tries or waited + wait_s > self._limits.max_wait_s:
                    raise self._gave_up(error, attempt, wait_s) from error.__cause__
            waited += wait_s
            self._pace.sleep(wait_s)

    def _gave_up(self, error: _Transient, attempt: int, wait_s: float) -> ToolError:
        times = "once" if attempt == 1 else f"{attempt} times"
        asked = f" and asks to wait {wait_s:g} s" if error.wait_s is not None else ""
        return ToolError(
            f"the Materials Project at {self.host} was asked {times}: {error}{asked}. "
            "Try again later, or use the snapshot."
        )

    def _once(self, route: str, params: Mapping[str, str]) -> dict[str, Any]:
        url = httpx.URL(f"{self.url}/{route}", params=dict(params))
        if len(str(url)) > _MAX_URL:
            raise ToolError(
                f"the request would be {len(str(url)):,} characters long and {_MAX_URL:,} are "
                "allowed. Name fewer elements, fields or keywords."
            )
        deadline = time.monotonic() + self._limits.timeout_s
        try:
            for _ in range(_MAX_HOPS + 1):
                with self._client.stream("GET", url, headers={"X-API-KEY": self._key}) as response:
                    if response.has_redirect_location:
                        url = self._next(url, response.headers["Location"])
                        continue
                    body = self._body(response, deadline)
                return self._answer(route, response, body)
        except httpx.TimeoutException as error:
            raise self._too_slow() from error
        except httpx.RequestError as error:
            raise _Transient(f"the connection failed ({type(error).__name__})") from error
        raise ToolError(f"{self.host} redirects in circles. Check the endpoint's address.")

    def _next(self, url: httpx.URL, location: str) -> httpx.URL:
        """Where a redirect leads, if that is on the same server."""
        try:
            target = url.join(location)
        except (httpx.InvalidURL, ValueError):
            target = httpx.URL()
        if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
            raise ToolError(
                f"{self.host} redirects to another server ({target.host or 'an invalid address'}), "
                "which is not followed: the key is for this one. Check the endpoint's address."
            )
        return target

    def _too_slow(self) -> ToolError:
        return ToolError(
            f"the Materials Project at {self.host} did not answer within "
            f"{self._limits.timeout_s:g} s. Ask for less, or try again."
        )

    def _body(self, response: httpx.Response, deadline: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._limits.max_bytes:
                raise ToolError(
                    f"{self.host} answered with more than {self._limits.max_bytes:,} bytes, which "
                    "are not read. Ask for fewer fields or rows."
                )
            if time.monotonic() > deadline:
                raise self._too_slow()
        return bytes(body)

    def _answer(self, route: str, response: httpx.Response, body: bytes) -> dict[str, Any]:
        status = response.status_code
        if status != 200:
            raise self._refusal(route, response, self._quoted(body))
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise ToolError(
                f"{self.host} answered {route} with something that is not JSON "
                f"({self._quoted(body) or 'nothing'}). Check the endpoint's address, or try later."
            ) from None
        if not isinstance(answer, dict):
            raise ToolError(
                f"{self.host} answered {route} with a JSON {type(answer).__name__} where an object "
                "was expected. Check the endpoint's address."
            )
        return answer

    def _refusal(self, route: str, response: httpx.Response, detail: str) -> Exception:
        status = response.status_code
        said = f": {detail}" if detail else ""
        if status == 429:
            wait_s = _retry_after(response.headers.get("Retry-After"))
            return _Transient(f"it takes no more requests for now (429){said}", wait_s)
        if status >= 500:
            wait_s = _retry_after(response.headers.get("Retry-After"))
            return _Transient(f"it failed ({status}){said}", wait_s)
        if status in (401, 403):
            return ToolError(
                f"the key was refused by {self.host} ({status}{said}). Check the argument or "
                f"MP_API_KEY; {KEY_PAGE} shows the key."
            )
        if status == 404:
            release = f"release {self.release}" if self.release else "unknown release"
            return ToolError(
                f"{self.host} ({release}) has no route /{route} (404{said}). This version of "
                f"ragkit knows the routes of release {KNOWN_RELEASE}: update ragkit, check the "
                "endpoint's address, or use the snapshot."
            )
        return ToolError(
            f"{self.host} did not accept the request to /{route} ({status}{said}). "
            "Revise the arguments."
        )

    def _quoted(self, body: bytes) -> str:
        """What an error's body says, short, and without the key should it be in there."""
        text = body[:4000].decode("utf-8", "replace")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            text = re.sub(r"<[^>]*>|<[^>]*$", " ", text)
        else:
            text = _detail(answer) or text
        text = " ".join(text.split()).replace(self._key, "[key]")
        return text if len(text) <= 200 else f"{text[:200]}…"


def _detail(answer: object) -> str:
    """The message of an error: a text, or a list of {"loc": […], "msg": "…"}."""
    if not isinstance(answer, dict):
        return ""
    detail = answer.get("detail") or answer.get("message") or answer.get("error")
    if not isinstance(detail, list):
        return str(detail or "")
    parts = []
    for each in detail:
        if isinstance(each, dict):
            where = each.get("loc")
            name = str(where[-1]) if isinstance(where, list) and where else "a value"
            parts.append(f"{name}: {each.get('msg', 'is not accepted')}")
    return "; ".join(parts)


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number of seconds or a date."""
    if not value:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value.strip()):
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - time.time())


def _found_key(given: str | None) -> str:
    key = (given if given is not None else os.environ.get("MP_API_KEY", "")).strip()
    if not key:
        raise ToolError(
            "there is no key for the Materials Project. Give api_key or set MP_API_KEY; a key is "
            f"free at {KEY_PAGE}. The snapshot needs none."
        )
    if not re.fullmatch(r"[\x21-\x7e]{1,200}", key):
        raise ToolError(
            "the key for the Materials Project has characters that no key has (blanks, line "
            f"breaks, letters beyond ASCII). Copy it again from {KEY_PAGE}."
        )
    return key


def _checked(endpoint: str) -> httpx.URL:
    """The address, if a key may be sent there."""
    try:
        url = httpx.URL(endpoint)
    except httpx.InvalidURL:
        raise ValueError(
            f"the endpoint must be an address such as {ENDPOINT}, not {endpoint!r}"
        ) from None
    if url.userinfo or url.query or url.fragment:
        raise ValueError("the endpoint must be a plain address, without a user, query or fragment")
    if not url.host or not (url.scheme == "https" or _is_loopback(url.host)):
        raise ValueError(
            f"the endpoint must start with https:// (http:// only on this machine), not "
            f"{endpoint!r}: the key would travel in clear text"
        )
    if url.scheme not in ("http", "https"):
        raise ValueError(f"the endpoint must be an http or https address, not {endpoint!r}")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
