"""The client of the store: one connection pool, one way to try again.

What may be sent again, is: the store says by status whether nothing was done (429, and 503 before anything began), and everything
that is sent here may be done twice without doing it twice. Ratings replace each other, progress never goes back, and batches of
samples carry an `Idempotency-Key`, or times.
"""

import asyncio
import random
import time
from typing import Any, Self

import httpx

TRY_AGAIN = {429, 502, 503, 504}


class StoreError(Exception):
    """The store has refused a request. `code` is what programs decide by, `detail` is for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.status, self.code, self.detail = status, code, detail


class StoreAway(StoreError):
    """The store was not reached, or had no time, for as long as was waited."""


class Store:
    def __init__(self, url: str, token: str, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(10.0, connect=3.0),
            limits=httpx.Limits(max_connections=20),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        user: str | None = None,
        headers: dict[str, str] | None = None,
        **request: Any,
    ) -> httpx.Response:
        """Makes a call on behalf of `user`, and makes it again while the store asks for patience."""
        headers = dict(headers or {})
        if user is not None:
            # The token has the scope act_as: the store takes our word for who it is.
            headers["x-user-id"] = user
        until = time.monotonic() + self._patience
        pause = 0.2
        while True:
            try:
                answer = await self._http.request(method, path, headers=headers, **request)
            except httpx.TransportError as error:
                failure: StoreError = StoreAway(0, "unreachable", f"the store was not reached: {error!r}")
                wait = pause
            else:
                if answer.is_success:
                    return answer
                failure = refusal(answer)
                if answer.status_code not in TRY_AGAIN:
                    raise failure
                # It knows best when; a little more, so that not all come back at once.
                wait = float(answer.headers.get("retry-after", pause))
            if time.monotonic() + wait > until:
                raise StoreAway(failure.status, failure.code, failure.detail)
            await asyncio.sleep(wait * random.uniform(1.0, 1.2))
            pause = min(pause * 2, 5.0)


def refusal(answer: httpx.Response) -> StoreError:
    """An error of the store's is a problem (RFC 9457); a proxy's may be anything."""
    try:
        problem = answer.json()
        return StoreError(answer.status_code, problem["code"], problem["detail"])
    except (ValueError, KeyError, TypeError):
        return StoreError(answer.status_code, "unknown", f"the store answered {answer.status_code}")
