"""A backfill that reports how far it is, and goes on where it was.

Blocks are done in order by one worker, in chunks. After each, the store hears which block comes next; from that it computes
percentage and estimate. Whoever starts the same range again after a failure, or after this process was killed, gets the same job and
begins at the first block that was not reported: at most one chunk is done twice.

For several workers at one job there are leases: `utxoiq-store backfill run`, or the calls below `…/backfill/open`.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from .store import Store, StoreError

PATH = "/api/v1/monitoring/backfill"
OPEN_STATES = {"running", "paused", "failed"}

log = logging.getLogger(__name__)

Job = dict[str, Any]
Work = Callable[[int, int], Awaitable[None]]
"""Does the blocks from the first to the last, both included."""


class Stopped(Exception):
    """Somebody has paused or cancelled the job."""


async def open_job(store: Store, job_type: str, start: int, end: int, by: str) -> Job:
    """The job of this type and range that is not finished, or a new one."""
    listed = await store.call("GET", f"{PATH}/status", params={"job_type": job_type, "limit": 100})
    for job in listed.json():
        if (job["start_block"], job["end_block"]) == (start, end) and job["status"] in OPEN_STATES:
            if job["status"] != "running":
                log.info("going on with job %s at block %s", job["id"], job["current_block"])
                await store.call("POST", f"{PATH}/{job['id']}/resume")
            return (await store.call("GET", f"{PATH}/{job['id']}")).json()
    asked = {"job_type": job_type, "start_block": start, "end_block": end, "created_by": by}
    return (await store.call("POST", f"{PATH}/start", json=asked)).json()


async def run(store: Store, job: Job, work: Work, chunk: int = 100) -> Job:
    """Does what is missing of a job, and reports it. An error of the work fails the job, with its message."""
    start, end = job["start_block"], job["end_block"]
    block = max(job["current_block"], start)
    try:
        while block <= end:
            last = min(block + chunk - 1, end)
            await work(block, last)
            block = last + 1
            # The last report is the completion.
            if block <= end:
                await report(store, job, current_block=block)
        return await report(store, job, current_block=end, status="completed")
    except (Stopped, StoreError):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"[:1000]
        await report(store, job, current_block=block, status="failed", error_message=message)
        raise


async def report(store: Store, job: Job, **progress: Any) -> Job:
    """Says how far the job is. Whoever was told to stop, is told by the answer."""
    start, end = job["start_block"], job["end_block"]
    done = progress["current_block"] - start
    share = 100.0 if progress.get("status") == "completed" else 100.0 * done / (end - start + 1)
    body = {"progress_percentage": round(share, 2), **progress}
    try:
        answer = await store.call("POST", f"{PATH}/progress", params={"job_id": job["id"]}, json=body)
    except StoreError as error:
        if error.status == 409:
            raise Stopped(error.detail) from error
        raise
    now = answer.json()
    if now["status"] in {"paused", "cancelled"}:
        raise Stopped(f"the job is {now['status']}")
    return now
