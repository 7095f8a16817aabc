"""HTTP routes of the verify page: its files and words, the windows of joints, and the choice of golden boards."""

import asyncio
import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from inspect_pop.core.errors import InputFault, UsageFault
from inspect_pop.station.access import NOT_FOUND_RESPONSE, PROBLEM_RESPONSE, REFUSAL_RESPONSES, Caller, StationDep, require
from inspect_pop.store import Store
from inspect_pop.verify.golden import Golden, choose_golden, find_golden, forget_golden, read_golden_window
from inspect_pop.verify.recut import cut_again
from inspect_pop.verify.windows import JointWindow
from inspect_pop.verify.windows_file import read_window, read_windows
from inspect_pop.verify.words import read_looks, read_static, read_words

__all__ = ["WINDOWS_HEADER", "windows"]

WINDOWS_HEADER = "X-Windows"
_WINDOW_CACHE = "private, max-age=3600, immutable"
_PAGE_CACHE = "no-cache"
_RECORD_LENGTH, _JOINT_LENGTH = 200, 200
windows = APIRouter(tags=["verify"])


class GoldenBody(BaseModel):
    """Which record is the golden board."""

    model_config = ConfigDict(extra="forbid")
    record: str = Field(min_length=1, max_length=_RECORD_LENGTH)


class GoldenReply(BaseModel):
    """The golden board of a product; `chosen_by` is null where nobody chose it."""

    product: str
    record: str
    serial: str
    chosen_by: str | None
    chosen_at: str | None


@windows.get(
    "/v1/records/{record}/windows/{joint:path}",
    response_class=Response,
    responses={
        **REFUSAL_RESPONSES,
        **NOT_FOUND_RESPONSE,
        200: {
            "content": {"application/octet-stream": {}},
            "description": f"Grey values; the header {WINDOWS_HEADER} describes them",
        },
    },
    dependencies=[Depends(require("read"))],
)
async def get_window(record: str, joint: str, station: StationDep) -> Response:
    """Return the slices of one joint as little-endian uint16, then its heights.

    A joint whose picture was not kept is cut again from the export.
    """
    try:
        window, is_stored = await asyncio.to_thread(_find_window, station.store, record, joint)
    except (UsageFault, InputFault) as fault:
        raise HTTPException(404, str(fault)) from fault
    parts = [window.codes, *([window.heights.codes] if window.heights is not None else [])]
    headers = {WINDOWS_HEADER: json.dumps(_describe(window, is_stored)), "Cache-Control": _WINDOW_CACHE}
    body = b"".join(part.astype("<u2", copy=False).tobytes() for part in parts)
    return Response(body, media_type="application/octet-stream", headers=headers)


def _find_window(store: Store, record: str, joint: str) -> tuple[JointWindow, bool]:
    """Return a joint's window and whether it was kept. Raises `UsageFault` or `InputFault` where there is none."""
    stored = read_windows(store, record)
    if stored is not None and joint in stored.roles:
        window = read_window(store.require_files(), stored.path, joint)
        if window is not None:
            return window, True
    golden = read_golden_window(store, record, joint)
    if golden is not None:
        return golden, True
    if stored is None:
        raise UsageFault(f"record {record}", expected="windows of its joints", found="none: they were not kept, or are removed")
    if joint.count(".") < 2:
        raise UsageFault(f"joint {joint}", expected="a name such as U1.lower.C4", found="another form")
    return cut_again(stored, joint), False


def _describe(window: JointWindow, is_stored: bool) -> dict[str, Any]:
    """Return what the page needs to draw the codes."""
    about = {k: v for k, v in vars(window).items() if k not in {"codes", "heights", "joint"}}
    about |= {"shape": window.codes.shape, "kept": is_stored, "heights": None}
    if window.heights is not None:
        heights = {k: v for k, v in vars(window.heights).items() if k != "codes"}
        about["heights"] = heights | {"shape": window.heights.codes.shape}
    return about


@windows.get("/verify/static/{name}", include_in_schema=False)
async def get_static(name: str) -> Response:
    """Return a file of the page. It holds no data of the store: everybody may load it."""
    try:
        content, media_type = read_static(name)
    except UsageFault as fault:
        raise HTTPException(404, str(fault)) from fault
    return Response(content, media_type=media_type, headers={"Cache-Control": _PAGE_CACHE})


@windows.get("/verify/words/{language}.json", include_in_schema=False)
async def get_words(language: str) -> Response:
    """Return the page's words in a language."""
    try:
        words = read_words(language)
    except UsageFault as fault:
        raise HTTPException(404, str(fault)) from fault
    content = json.dumps(words, ensure_ascii=False)
    return Response(content, media_type="application/json", headers={"Cache-Control": _PAGE_CACHE})


@windows.get("/verify/looks.json", include_in_schema=False)
async def get_looks() -> list[dict[str, str]]:
    """Return how the page marks each class."""
    return read_looks()


@windows.get(
    "/v1/golden/{product:path}",
    responses={**REFUSAL_RESPONSES, 404: PROBLEM_RESPONSE | {"description": "No board of this product can be the golden one"}},
    dependencies=[Depends(require("read"))],
)
async def get_golden(product: str, station: StationDep) -> GoldenReply:
    """Return the golden board of a product: the chosen one, or the latest that passed."""
    golden = await asyncio.to_thread(find_golden, station.store, product)
    if golden is None:
        raise HTTPException(404, "no board of this product passed, or none of them can be cut again")
    return _reply(golden)


@windows.put(
    "/v1/golden/{product:path}",
    responses={
        **REFUSAL_RESPONSES,
        **NOT_FOUND_RESPONSE,
        422: PROBLEM_RESPONSE | {"description": "This record cannot be the golden board"},
    },
)
async def put_golden(
    product: str, body: GoldenBody, station: StationDep, caller: Annotated[Caller, Depends(require("train"))]
) -> GoldenReply:
    """Choose the golden board of a product, and keep all of its joints."""
    try:
        golden = await asyncio.to_thread(choose_golden, station.store, product, body.record, by=caller.name)
    except (UsageFault, InputFault) as fault:
        raise HTTPException(422, str(fault)) from fault
    return _reply(golden)


@windows.delete("/v1/golden/{product:path}", status_code=204, responses={**REFUSAL_RESPONSES, **NOT_FOUND_RESPONSE})
async def delete_golden(product: str, station: StationDep, caller: Annotated[Caller, Depends(require("train"))]) -> None:
    """Withdraw the choice of a product's golden board."""
    await asyncio.to_thread(forget_golden, station.store, product, by=caller.name)


def _reply(golden: Golden) -> GoldenReply:
    return GoldenReply(**asdict(golden))
