"""What all routes share: the station, who may do what, and how refusals are told."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from inspect_pop.station.bodies import ProblemBody
from inspect_pop.station.station import Station
from inspect_pop.station.tokens import Caller

__all__ = ["MISSING", "REFUSALS", "WRONG", "Here", "Responses", "may"]

Responses = dict[int | str, dict[str, Any]]

# The schema itself, not the model: FastAPI would say of a model that it comes as what the route answers else, a page or text.
WRONG: dict[str, Any] = {"content": {"application/json": {"schema": ProblemBody.model_json_schema()}}}
REFUSALS: Responses = {
    400: WRONG | {"description": "No HTTP that can be understood"},
    401: WRONG | {"description": "No known token, where one is needed"},
    403: WRONG | {"description": "A token without this right, or a caller from another machine where none is known"},
    408: WRONG | {"description": "The request came too slowly"},
    413: WRONG | {"description": "The request is too long"},
    503: WRONG | {"description": "The store cannot be read or written: try again after `Retry-After` seconds"},
}
MISSING: Responses = {404: WRONG | {"description": "No such record"}}

_BEARER = HTTPBearer(auto_error=False, description="Needed where the service knows tokens")


def may(act: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller, or refuses one whose role does not allow `act`.

    Dependencies are coroutines: for a plain function a thread would be asked, which takes longer than all that they do.
    """

    async def allowed(request: Request, _: Annotated[object, Depends(_BEARER)]) -> Caller:
        caller: Caller | None = request.state.caller
        if caller is None:
            raise HTTPException(401, "a known token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if not caller.may(act):
            raise HTTPException(403, f"the role {caller.role} may not {act}")
        return caller

    return allowed


async def _station(request: Request) -> Station:
    station: Station = request.app.state.station
    return station


Here = Annotated[Station, Depends(_station)]
