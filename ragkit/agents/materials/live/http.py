"""HTTP client of the Materials Project's REST API, with rate limit, retries and error messages.

It uses the documented routes through httpx instead of mp-api. Measured in an empty environment,
mp-api 0.46.5 installs 65 packages and 990 MB (pyarrow, deltalake, boto3, pandas, plotly) and takes
2.5 to 3.6 s to import. Its paging cannot be resumed (all routes but summary hide the page), one
invalid document fails the whole response unless validation is disabled, 5,000 ids become a URL of
49 kB, and redirects send the key to any host; 0.46.5 also sends the upper bound of a bulk modulus
as that of the shear modulus.
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

from ragkit import forks, models
from ragkit.agents.tools import ToolError

ENDPOINT = "https://api.materialsproject.org"
# Newest server release whose routes and fields are supported.
KNOWN_RELEASE = "0.87"
# The first release that writes ids in letters, unless it is asked for numbers.
_LETTER_IDS_SINCE = (0, 87)
KEY_PAGE = "https://next-gen.materialsproject.org/api"
_MAX_URL = 6000
_MAX_REDIRECTS = 3


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of one request and of one search.

    Attributes:
        timeout_s: Time limit of a request, from connecting to the last byte.
        tries: Maximum number of attempts of a request.
        max_wait_s: Maximum total waiting time between the attempts of a request; a tool has a time
            limit of 20 s.
        page_size: Number of records in a request; the server allows 1,000.
        max_records: Maximum number of records of a search; larger results raise an error.
        max_bytes: Maximum size of a response after decompression.
    """

    timeout_s: float = 15.0
    tries: int = 3
    max_wait_s: float = 10.0
    page_size: int = 1000
    max_records: int = 20_000
    max_bytes: int = 64 * 2**20


class RateLimiter:
    """Token bucket that limits the rate of requests.

    The Materials Project allows 25 requests per second and 1,000 per minute.

    Args:
        requests_per_s: Rate, and size of the bucket.
        clock: Returns monotonic time in seconds.
        sleep: Waits for a number of seconds.

    >>> now = [0.0]
    >>> sleep = lambda s: now.__setitem__(0, now[0] + s)
    >>> limiter = RateLimiter(2, clock=lambda: now[0], sleep=sleep)
    >>> for _ in range(4):
    ...     limiter.wait()
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
        """Block until the next request may be sent."""
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


def _release(text: str) -> tuple[int, ...]:
    """Return the numbers of a release: "0.87.1" is (0, 87, 1)."""
    return tuple(map(int, re.findall(r"\d+", text)))


class _TransientError(Exception):
    """Failure that may be retried; `wait_s` is the server's Retry-After."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Service:
    """Client of the REST API at one address.

    Args:
        api_key: Key of the Materials Project, sent as X-API-KEY and never shown.
        endpoint: Address of the server: https, or http on this machine.
        limits: Limits of a request.
        rate_limiter: Limits the rate of requests and waits between attempts.

    Raises:
        ValueError: The address is not secure enough for a key.
        ToolError: The key is missing.
    """

    def __init__(
        self, api_key: str | None, endpoint: str, limits: RequestLimits, rate_limiter: RateLimiter
    ) -> None:
        url = _validate_endpoint(endpoint)
        self._on_this_machine = _is_loopback(url.host)
        self.host = url.host
        self._check_online()
        self._key = _resolve_key(api_key)
        self._limits = limits
        self._rate_limiter = rate_limiter
        self.url = str(url).rstrip("/")
        self.release = ""
        self._client = self._connect()
        forks.renew_after_fork(self, Service._renew)

    def _connect(self) -> httpx.Client:
        return httpx.Client(
            timeout=httpx.Timeout(
                self._limits.timeout_s, connect=min(self._limits.timeout_s, 10.0)
            ),
            follow_redirects=False,
            trust_env=not self._on_this_machine,
            # Loading certificates takes a quarter of a second.
            verify=self.url.startswith("https:"),
            headers={"Accept": "application/json", "User-Agent": "ragkit"},
        )

    def _renew(self) -> None:
        """Make the connections anew in a forked process."""
        forks.abandon(self._client)
        self._client = self._connect()

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
        """Send a GET request with retries and return its JSON object.

        Args:
            route: Route such as "materials/summary/".
            params: Query parameters; lists are comma-separated.

        Raises:
            ToolError: RAGKIT_OFFLINE is set, or the request failed.
        """
        self._check_online()
        if route.startswith("materials/") and _release(self.release) >= _LETTER_IDS_SINCE:
            params = {**params, "id_format": "legacy"}
        waited = 0.0
        attempt = 0
        while True:
            attempt += 1
            self._rate_limiter.wait()
            try:
                return self._request(route, params)
            except _TransientError as error:
                wait_s = error.wait_s if error.wait_s is not None else 0.5 * 2 ** (attempt - 1)
                if attempt >= self._limits.tries or waited + wait_s > self._limits.max_wait_s:
                    raise self._retries_exhausted(error, attempt, wait_s) from error.__cause__
            waited += wait_s
            self._rate_limiter.sleep(wait_s)

    def _retries_exhausted(self, error: _TransientError, attempt: int, wait_s: float) -> ToolError:
        times = "once" if attempt == 1 else f"{attempt} times"
        requested_wait = f" and asks to wait {wait_s:g} s" if error.wait_s is not None else ""
        return ToolError(
            f"the Materials Project at {self.host} was asked {times}: {error}{requested_wait}. "
            "Try again later, or use the snapshot."
        )

    def _request(self, route: str, params: Mapping[str, str]) -> dict[str, Any]:
        url = httpx.URL(f"{self.url}/{route}", params=dict(params))
        if len(str(url)) > _MAX_URL:
            raise ToolError(
                f"the request would be {len(str(url)):,} characters long and {_MAX_URL:,} are "
                "allowed. Name fewer elements, fields or keywords."
            )
        deadline = time.monotonic() + self._limits.timeout_s
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                with self._client.stream("GET", url, headers={"X-API-KEY": self._key}) as response:
                    if response.has_redirect_location:
                        url = self._redirect_target(url, response.headers["Location"])
                        continue
                    body = self._read_body(response, deadline)
                return self._parse(route, response, body)
        except httpx.TimeoutException as error:
            raise self._too_slow() from error
        except httpx.RequestError as error:
            raise _TransientError(f"the connection failed ({type(error).__name__})") from error
        raise ToolError(f"{self.host} redirects in circles. Check the endpoint's address.")

    def _redirect_target(self, url: httpx.URL, location: str) -> httpx.URL:
        """Return the target of a redirect; raise ToolError if it is on another server."""
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

    def _read_body(self, response: httpx.Response, deadline: float) -> bytes:
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

    def _parse(self, route: str, response: httpx.Response, body: bytes) -> dict[str, Any]:
        status = response.status_code
        if status != 200:
            raise self._error(route, response, self._error_text(body))
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise ToolError(
                f"{self.host} answered {route} with something that is not JSON "
                f"({self._error_text(body) or 'nothing'}). Check the endpoint's address, or try "
                "later."
            ) from None
        if not isinstance(answer, dict):
            raise ToolError(
                f"{self.host} answered {route} with a JSON {type(answer).__name__} where an object "
                "was expected. Check the endpoint's address."
            )
        return answer

    def _error(self, route: str, response: httpx.Response, detail: str) -> Exception:
        status = response.status_code
        suffix = f": {detail}" if detail else ""
        if status == 429:
            wait_s = _retry_after(response.headers.get("Retry-After"))
            return _TransientError(f"it takes no more requests for now (429){suffix}", wait_s)
        if status >= 500:
            wait_s = _retry_after(response.headers.get("Retry-After"))
            return _TransientError(f"it failed ({status}){suffix}", wait_s)
        if status in (401, 403):
            return ToolError(
                f"the key was refused by {self.host} ({status}{suffix}). Check the argument or "
                f"MP_API_KEY; {KEY_PAGE} shows the key."
            )
        if status == 404:
            release = f"release {self.release}" if self.release else "unknown release"
            return ToolError(
                f"{self.host} ({release}) has no route /{route} (404{suffix}). This version of "
                f"ragkit knows the routes of release {KNOWN_RELEASE}: update ragkit, check the "
                "endpoint's address, or use the snapshot."
            )
        return ToolError(
            f"{self.host} did not accept the request to /{route} ({status}{suffix}). "
            "Revise the arguments."
        )

    def _error_text(self, body: bytes) -> str:
        """Return a short message from the body of an error, with the key masked."""
        text = body[:4000].decode("utf-8", "replace")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            text = re.sub(r"<[^>]*>|<[^>]*$", " ", text)
        else:
            text = _error_detail(answer) or text
        text = " ".join(text.split()).replace(self._key, "[key]")
        return text if len(text) <= 200 else f"{text[:200]}…"


def _error_detail(answer: object) -> str:
    """Format the message of an error, which is a text or a list of {"loc": […], "msg": "…"}."""
    if not isinstance(answer, dict):
        return ""
    detail = answer.get("detail") or answer.get("message") or answer.get("error")
    if not isinstance(detail, list):
        return str(detail or "")
    parts = []
    for entry in detail:
        if isinstance(entry, dict):
            location = entry.get("loc")
            name = str(location[-1]) if isinstance(location, list) and location else "a value"
            parts.append(f"{name}: {entry.get('msg', 'is not accepted')}")
    return "; ".join(parts)


def _retry_after(value: str | None) -> float | None:
    """Parse a Retry-After header (seconds or a date) into seconds."""
    if not value:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value.strip()):
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - time.time())


def _resolve_key(api_key: str | None) -> str:
    key = (api_key if api_key is not None else os.environ.get("MP_API_KEY", "")).strip()
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


def _validate_endpoint(endpoint: str) -> httpx.URL:
    """Parse an address; raise ValueError unless a key may be sent there."""
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
