"""`POST /v1/inspections`: one board by its path or as an upload."""

import asyncio
import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from inspect_pop.errors import FileFault, InputFault
from inspect_pop.station.access import REFUSALS, WRONG, Here, Responses, may
from inspect_pop.station.bench import UNUSABLE
from inspect_pop.station.bodies import AnswerBody, InspectBody
from inspect_pop.station.client import OTHER_STORE, STORE_HEADER, store_identity
from inspect_pop.station.dispatch import Said, refused, work
from inspect_pop.station.paths import within
from inspect_pop.station.station import Station
from inspect_pop.station.tokens import Caller
from inspect_pop.station.uploads import received

__all__ = ["router"]

router = APIRouter(tags=["line"])

_ANSWERS: Responses = {
    **REFUSALS,
    409: WRONG | {"description": f"The service keeps another store than the header {STORE_HEADER} names"},
    422: {"model": AnswerBody, "description": "Could not be inspected, and why; the board is in quarantine"},
    503: {"model": AnswerBody, "description": "Busy, or the store cannot be written: try again after `Retry-After` seconds"},
    504: {"model": AnswerBody, "description": "No answer within the time limit; the board is in quarantine"},
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": InspectBody.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary", "description": "a zip that holds one board"}},
                    "additionalProperties": False,
                }
            },
        },
    }
}


@router.post("/v1/inspections", response_model=AnswerBody, responses=_ANSWERS, openapi_extra=_BODY)
async def inspect(request: Request, here: Here, caller: Annotated[Caller, Depends(may("inspect"))]) -> Response:
    """Inspect one board, by path within the service's roots or as an uploaded zip; answers after the record is kept."""
    started = time.monotonic()
    wanted = request.headers.get(STORE_HEADER)
    if wanted is not None and wanted != store_identity(here.settings.store):
        raise HTTPException(OTHER_STORE, "this service keeps another store")
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        said = await _uploaded(here, request)
    else:
        said = await _by_path(here, request, caller)
    seconds = time.monotonic() - started
    said.answer["elapsed_ms"] = round(seconds * 1000, 1)
    here.metrics.verdicts.labels(said.answer["verdict"]).inc()
    here.metrics.latency.observe(seconds)
    request.state.told = {k: said.answer[k] for k in ("serial", "verdict", "record", "reason")}
    return JSONResponse(said.answer, said.status, said.headers)


async def _uploaded(here: Station, request: Request) -> Said:
    async with received(request) as upload:
        limits = dataclasses.asdict(here.settings.archive)
        job = {"kind": "upload", "path": str(upload.archive), "into": str(upload.into), "limits": limits}
        return await work(here, job | {"name": f"upload: {upload.name[:200]}", "report": _page_address(request)})


async def _by_path(here: Station, request: Request, caller: Caller) -> Said:
    body = await request.body()
    try:
        asked = InspectBody.model_validate_json(body)
        path, root = await asyncio.to_thread(within, here.settings.roots, asked.path)
        _own(caller, path)
    except ValidationError as error:
        return refused(UNUSABLE, FileFault("the request", expected='JSON as {"path": "…"}', found=error.errors()[0]["msg"]))
    except InputFault as fault:
        return refused(UNUSABLE, fault)
    job = {"kind": "inspect", "path": str(path), "root": str(root), "name": str(path), "report": _page_address(request)}
    return await work(here, job)


def _own(caller: Caller, path: Path) -> None:
    """A caller that is kept to roots of its own gets 403 for a board elsewhere."""
    if caller.roots is not None and not any(path.is_relative_to(root) for root in caller.roots):
        raise HTTPException(403, f"{caller.name} may not read {path}")


def _page_address(request: Request) -> str:
    return f"{request.base_url}v1/reports/{{record}}"
