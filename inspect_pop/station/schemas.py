"""What goes over HTTP, as pydantic models: OpenAPI and validation follow from them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AnswerBody",
    "BoardBody",
    "DecisionBody",
    "DecisionReply",
    "HealthBody",
    "InspectBody",
    "ModelBody",
    "ModelReply",
    "ProblemBody",
]

Text = Annotated[str, Field(min_length=1, max_length=128)]
State = Literal["DefectConfirmed", "DefectRejected", "DefectAccepted", "DefectRepaired", "DefectClosed", "DefectMissed"]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class InspectBody(_Asked):
    """Inspect the board at a path within the service's roots."""

    path: Annotated[str, Field(min_length=1, max_length=4096, examples=["/exports/line-a/boards/PB2411-010200"])]


class ModelBody(_Asked):
    """Use the model in this folder from now on."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]


class DecisionBody(_Asked):
    """What a person decided about one joint of a record; without `record`, of the serial's last inspection."""

    refdes: Text
    interface: Text
    ball: Text
    state: State
    label: Literal["good", "bridged", "open", "starved", "head_in_pillow"] | None = None
    note: Annotated[str, Field(max_length=2000)] = ""
    record: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class DefectJoint(BaseModel):
    """A joint that failed; `p` is the calibrated probability of its label."""

    refdes: str
    interface: str
    ball: str
    label: str | None
    p: float | None


class ReviewJoint(DefectJoint):
    """A joint that a person must look at, and why."""

    reason: str


class Problem(BaseModel):
    """What is wrong with a board: which thing, what was expected and found there, and what to do."""

    about: str
    thing: str
    expected: str
    found: str
    remedy: str


class AnswerBody(BaseModel):
    """The hook's object; `problem` says what is wrong where the verdict is `error`."""

    serial: str | None
    verdict: Literal["pass", "fail", "review", "error"]
    reason: str
    defects: list[DefectJoint]
    record: str | None
    report: str | None
    elapsed_ms: float
    review: list[ReviewJoint] = []
    disposition: str | None = None
    missing: list[str] = []
    problem: Problem | None = None


class ProblemBody(BaseModel):
    """A request that was refused, and why."""

    verdict: Literal["error"] = "error"
    reason: str


class BoardBody(BaseModel):
    """All records of a serial, the first inspection first."""

    serial: str
    records: list[dict[str, Any]]


class DecisionReply(BaseModel):
    """The decision as it was recorded, and what became of the board: `final` is pass, fail or pending."""

    record: str
    decided_by: str
    decided_at: str
    final: str


class ModelReply(BaseModel):
    """The digest of the model in use."""

    model: str


class HealthBody(BaseModel):
    """`ready`, or what keeps the service from working."""

    status: str
    workers: int
    waiting: int
    model: str
