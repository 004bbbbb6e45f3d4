"""The original design, in memory: one process with a heap, a table and a worker.

    uvicorn fastapi_app:app     Nothing is durable: what it knows dies with it.
"""

import asyncio
import heapq
import itertools
import time
import uuid
from enum import IntEnum
from typing import List

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, conint, conlist

BATCH_SIZE = 3
INTERVAL_S = 5
WORK_S = 1.5

Priority = IntEnum("Priority", ["HIGH", "MEDIUM", "LOW"])
app = FastAPI()
heap = []  # (priority, accepted, number, batch)
numbers = itertools.count()
ingestions = {}  # by ID: their batches
arrival = asyncio.Event()


class Ingestion(BaseModel):
    ids: conlist(conint(ge=1, le=2**53 - 1), min_items=1, max_items=100_000)
    priority: str


@app.post("/ingest")
async def ingest(request: Ingestion):
    if request.priority not in Priority.__members__:
        raise HTTPException(422, "priority must be HIGH, MEDIUM or LOW")
    ingestion_id = str(uuid.uuid4())
    accepted = time.time()
    batches: List[dict] = []
    for at in range(0, len(request.ids), BATCH_SIZE):
        batch = {"batch_id": str(uuid.uuid4()), "ids": request.ids[at : at + BATCH_SIZE], "status": "yet_to_start"}
        batches.append(batch)
        heapq.heappush(heap, (Priority[request.priority], accepted, next(numbers), batch))
    ingestions[ingestion_id] = batches
    arrival.set()
    return {"ingestion_id": ingestion_id}


@app.get("/status/{ingestion_id}")
async def status(ingestion_id: str):
    batches = ingestions.get(ingestion_id)
    if batches is None:
        raise HTTPException(404, "no such ingestion")
    states = {batch["status"] for batch in batches}
    overall = states.pop() if len(states) == 1 else "triggered"
    return {"ingestion_id": ingestion_id, "status": overall, "batches": batches}


async def deliver(batch):
    batch["status"] = "triggered"
    await asyncio.sleep(WORK_S)
    batch["status"] = "completed"


async def work():
    while True:
        arrival.clear()
        if heap:
            asyncio.ensure_future(deliver(heapq.heappop(heap)[3]))
            await asyncio.sleep(INTERVAL_S)
        else:
            await arrival.wait()


@app.on_event("startup")
async def start():
    asyncio.ensure_future(work())
