"""How the service is: alive, ready, its numbers; and a new model taken while it works."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from inspect_pop.errors import InputFault, ModelFault
from inspect_pop.station.access import REFUSALS, WRONG, Here, may
from inspect_pop.station.bodies import HealthBody, ModelBody, ModelReply
from inspect_pop.station.paths import within
from inspect_pop.station.station import Station
from inspect_pop.station.tokens import Caller

__all__ = ["router"]

router = APIRouter(tags=["upkeep"])


@router.get("/healthz", response_class=PlainTextResponse)
async def alive() -> str:
    """The process runs and answers."""
    return "ok"


@router.get("/readyz", responses={503: {"model": HealthBody, "description": "Not ready, and why"}})
async def ready(here: Here, response: Response) -> HealthBody:
    """Whether a board that comes now would be inspected and recorded."""
    status = _not_ready(here) or "ready"
    response.status_code = 200 if status == "ready" else 503
    return HealthBody(status=status, workers=here.pool.alive, waiting=here.pool.waiting, model=here.pool.model)


@router.get("/metrics", response_class=PlainTextResponse, responses=REFUSALS, dependencies=[Depends(may("read"))])
async def metrics(here: Here) -> Response:
    """For a Prometheus server."""
    own, pool = here.metrics, here.pool
    own.waiting.set(pool.waiting)
    own.workers.set(pool.alive)
    own.working.set(pool.busy)
    own.outbox.set((await asyncio.to_thread(here.store.waiting, 0))[0])
    own.model.clear()
    own.model.labels(pool.model).set(1)
    return Response(own.text(), media_type=CONTENT_TYPE_LATEST)


@router.post("/v1/model", responses={**REFUSALS, 422: WRONG | {"description": "A model that cannot be used; the old one stays"}})
async def model(body: ModelBody, here: Here, _: Annotated[Caller, Depends(may("administer"))]) -> ModelReply:
    """Use another model from now on: new processes are started with it, and take over when they are all ready."""
    try:
        folder, _root = await asyncio.to_thread(within, here.settings.may_load_from, body.path)
        digest = await here.pool.swap(model=str(folder))
    except (InputFault, ModelFault) as fault:
        raise HTTPException(422, str(fault)) from fault
    return ModelReply(model=digest)


def _not_ready(here: Station) -> str:
    if here.stopping:
        return "stopping"
    if here.pool.alive == 0:
        return "no inspecting process runs"
    return here.fault
