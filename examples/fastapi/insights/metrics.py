"""What this service measures about itself, sent in batches beside its requests.

A sample has its time from when it was measured, so that it is right however late it arrives, and a batch that is sent again adds
nothing. The key says the same for the whole batch: the store answers what it answered before.
"""

import asyncio
import logging
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import Any

from .store import Store, StoreError

PATH = "/api/v1/monitoring/metrics/batch"
MOST_IN_A_BATCH = 1_000

log = logging.getLogger(__name__)


class Reporter:
    def __init__(self, store: Store, service: str, every_seconds: float, max_waiting: int) -> None:
        self._store, self._service, self._every = store, service, every_seconds
        self._waiting: deque[dict[str, Any]] = deque(maxlen=max_waiting)
        self._sending = asyncio.Lock()
        self.dropped = 0

    def record(self, metric: str, value: float, unit: str, **labels: str) -> None:
        """Notes a sample; never waits, never fails."""
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(
            {
                "service_name": self._service,
                "metric_type": metric,
                "metric_value": value,
                "unit": unit,
                "labels": labels,
                "timestamp": datetime.now(UTC).isoformat(),
            }
        )

    async def run(self) -> None:
        """Sends every few seconds until it is cancelled."""
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.flush()
            except StoreError as error:
                log.warning("metrics wait for the store: %s", error)

    async def flush(self) -> None:
        """Sends what waits. What the store does not take keeps its place, unless it never will."""
        async with self._sending:
            while self._waiting:
                batch = [self._waiting[i] for i in range(min(MOST_IN_A_BATCH, len(self._waiting)))]
                # One key for the batch, however often it is sent.
                key = {"idempotency-key": str(uuid.uuid4())}
                try:
                    await self._store.call("POST", PATH, json=batch, headers=key)
                except StoreError as error:
                    if error.status not in (400, 413, 422):
                        raise
                    log.error("%s samples are dropped: %s", len(batch), error)
                    self.dropped += len(batch)
                for sample in batch:
                    # The oldest may have gone meanwhile, to make room.
                    if self._waiting and self._waiting[0] is sample:
                        self._waiting.popleft()
