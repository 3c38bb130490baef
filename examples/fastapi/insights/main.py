"""The service. `uvicorn insights.main:app`, with INSIGHTS_STORE_URL and INSIGHTS_STORE_TOKEN."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from . import backfill
from .metrics import Reporter
from .settings import Settings
from .store import Store, StoreAway, StoreError

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = Settings()
    async with Store(settings.store_url, settings.store_token.get_secret_value(), settings.patience_seconds) as store:
        reporter = Reporter(store, settings.service_name, settings.report_seconds, settings.max_waiting_samples)
        reporting = asyncio.create_task(reporter.run())
        app.state.store, app.state.reporter, app.state.backfills = store, reporter, {}
        yield
        reporting.cancel()
        for task in app.state.backfills.values():
            task.cancel()
        # What was measured up to now still goes.
        with suppress(StoreError):
            await reporter.flush()


app = FastAPI(title="Insights", lifespan=lifespan)


@app.middleware("http")
async def measured(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    began = time.perf_counter()
    response = await answer(request)
    route = request.scope.get("route")
    # The pattern and not the path: each new label is a new series.
    path = route.path if route is not None else "unmatched"
    took = (time.perf_counter() - began) * 1000
    app.state.reporter.record("request_duration", took, "ms", route=path, status=str(response.status_code))
    return response


@app.exception_handler(StoreError)
async def refused(_: Request, error: StoreError) -> JSONResponse:
    """What a user did wrong is told to the user; what the store cannot do now is ours to say."""
    if isinstance(error, StoreAway):
        return JSONResponse({"detail": "try again in a moment"}, 503, headers={"retry-after": "5"})
    if error.status in (400, 404, 409, 422):
        return JSONResponse({"detail": error.detail, "code": error.code}, error.status)
    log.error("the store refused this service: %s", error)
    return JSONResponse({"detail": "something is wrong here"}, 500)


def the_store(request: Request) -> Store:
    return request.app.state.store


def the_user(x_demo_user: Annotated[str | None, Header()] = None) -> str:
    """Who asks. Here a header says so; a real service has checked a session, or hands its users' own tokens on to the store."""
    if not x_demo_user:
        raise HTTPException(401, "who are you?")
    return x_demo_user


ToStore = Annotated[Store, Depends(the_store)]
User = Annotated[str, Depends(the_user)]


class Rating(BaseModel):
    rating: int = Field(ge=1, le=5)
    comment: str | None = Field(default=None, max_length=1000)


class Flag(BaseModel):
    type: str
    reason: str | None = Field(default=None, max_length=500)


class Range(BaseModel):
    start: int = Field(ge=0)
    end: int = Field(ge=0)


@app.post("/insights/{insight}/rating")
async def rate(insight: str, rating: Rating, store: ToStore, user: User) -> Any:
    body = {"insight_id": insight, "rating": rating.rating, "comment": rating.comment}
    saved = await store.call("POST", "/api/v1/feedback/rate", user=user, json=body)
    # The statistics as they are with this rating in them, whichever process answers.
    version = {"store-version": saved.headers["store-version"]}
    stats = await store.call("GET", "/api/v1/feedback/stats", params={"insight_id": insight}, headers=version)
    return {"yours": saved.json(), "all": stats.json()}


@app.post("/insights/{insight}/flag")
async def flag(insight: str, flag: Flag, store: ToStore, user: User) -> Any:
    body = {"insight_id": insight, "flag_type": flag.type, "flag_reason": flag.reason}
    return (await store.call("POST", "/api/v1/feedback/flag", user=user, json=body)).json()


@app.get("/insights/{insight}/statistics")
async def statistics(insight: str, store: ToStore) -> Any:
    return (await store.call("GET", "/api/v1/feedback/stats", params={"insight_id": insight})).json()


@app.post("/backfills", status_code=202)
async def begin(blocks: Range, request: Request, store: ToStore) -> Any:
    """Begins to fetch a range of blocks, or goes on with it."""
    job = await backfill.open_job(store, "insights", blocks.start, blocks.end, "insights")
    running = request.app.state.backfills
    if job["id"] not in running or running[job["id"]].done():
        running[job["id"]] = asyncio.create_task(followed(store, job))
    return job


@app.get("/backfills/{job}")
async def progress(job: str, store: ToStore) -> Any:
    return (await store.call("GET", f"{backfill.PATH}/{job}")).json()


async def followed(store: Store, job: backfill.Job) -> None:
    try:
        await backfill.run(store, job, fetch)
    except backfill.Stopped as why:
        log.info("backfill %s stops: %s", job["id"], why)
    except Exception:
        log.exception("backfill %s ended", job["id"])


async def fetch(first: int, last: int) -> None:
    """Fetches some blocks. Here it sleeps for as long as that takes; block 666 has a fault until somebody mends it."""
    await asyncio.sleep(0.001 * (last - first + 1))
    if first <= 666 <= last and not getattr(app.state, "mended", False):
        app.state.mended = True
        raise RuntimeError("block 666 could not be read")
