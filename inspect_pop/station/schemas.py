"""The bodies of HTTP requests and responses as pydantic models; OpenAPI and validation follow from them."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from inspect_pop.core.classes import CLASSES
from inspect_pop.station.contract import EXIT_STATUS
from inspect_pop.store import DECISION_STATES, STAGES, QuarantinedExport

__all__ = [
    "MAX_DECISIONS",
    "AnswerBody",
    "AuditBody",
    "BoardBody",
    "CloseBody",
    "ConflictBody",
    "DecisionBody",
    "DecisionReply",
    "HealthBody",
    "InspectBody",
    "ModelBody",
    "ModelReply",
    "PersonBody",
    "ProblemBody",
    "QuarantineEntry",
    "QueueBody",
    "QueueEntry",
    "RecordBody",
]

MAX_DECISIONS = 500  # of one request
Text = Annotated[str, Field(min_length=1, max_length=128)]
if TYPE_CHECKING:  # mypy cannot read literals from tables
    State = str
    Stage = str
    Label = str
    AnswerVerdict = str
else:
    State = Literal[DECISION_STATES]
    Stage = Literal[STAGES]
    Label = Literal[CLASSES]
    AnswerVerdict = Literal[tuple(EXIT_STATUS)]


class _RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class InspectBody(_RequestBody):
    """Inspect the board at a path within the service's roots."""

    path: Annotated[str, Field(min_length=1, max_length=4096, examples=["/exports/line-a/boards/PB2411-010200"])]
    path_hex: Annotated[str | None, Field(max_length=8192, pattern="^([0-9a-f]{2})+$")] = None  # of a path that is no UTF-8


class ModelBody(_RequestBody):
    """Use the model in this folder from now on."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]


class DecisionBody(_RequestBody):
    """A person's decision about one joint of a record; `record` is required if the serial has several.

    `stage` is the person's usual one unless given. `seen` is the `id` of the latest decision about the joint that the person saw,
    null for none; a machine leaves it out.
    """

    refdes: Text
    interface: Text
    ball: Text
    state: State
    label: Label | None = None
    note: Annotated[str, Field(max_length=2000)] = ""
    record: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]+$")] | None = None
    stage: Stage | None = None
    seen: Annotated[int, Field(ge=0)] | None = None


class DefectJoint(BaseModel):
    """A joint that failed; `p` is the calibrated probability of its label."""

    refdes: str
    interface: str
    ball: str
    label: str | None
    p: float | None


class ReviewJoint(DefectJoint):
    """A joint that a person must look at, and the reason."""

    reason: str


class Problem(BaseModel):
    """What is wrong with a board: the thing, what was expected and found, and what to do."""

    about: str
    thing: str
    expected: str
    found: str
    remedy: str


class AnswerBody(BaseModel):
    """The answer for one board, the same as the hook prints; with the verdict `error`, `problem` says what is wrong."""

    serial: str | None
    verdict: AnswerVerdict
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
    """A refused request, and the reason."""

    verdict: Literal["error"] = "error"
    reason: str


class BoardBody(BaseModel):
    """All records of a serial, the first inspection first."""

    serial: str
    records: list[dict[str, Any]]


class QuarantineEntry(BaseModel):
    """A board that could not be inspected. `serial` is null where its manifest cannot be read."""

    number: str
    path: str
    serial: str | None
    reason: str
    seen_at: str
    closed_at: str | None
    closed_by: str | None
    note: str | None

    @classmethod
    def from_stored(cls, entry: QuarantinedExport) -> Self:
        """Make the body of an entry of the store."""
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})


class CloseBody(_RequestBody):
    """What became of a board in quarantine."""

    note: str = Field("", max_length=2000)


class DecisionReply(BaseModel):
    """The decision as it was recorded; `final` is the board's outcome: pass, fail or pending. `ids` are those of a list."""

    record: str
    decided_by: str
    decided_at: str
    final: str
    ids: list[int] | None = None


class ConflictBody(ProblemBody):
    """Another decision came in between; `decisions` are all about these joints now, `superseded` is after a re-inspection."""

    decisions: list[dict[str, Any]] = []
    superseded: bool = False


class PersonBody(BaseModel):
    """Who asks. `csrf` is what a deciding request by cookie repeats in `X-CSRF-Token`; empty where none is needed."""

    name: str
    role: str
    stage: str | None
    rights: list[str]
    csrf: str
    language: str | None


class QueueEntry(BaseModel):
    """A board and what is left to decide at it; `worst` is the smallest probability of good among its suspects."""

    record: str
    serial: str
    inspected_at: str
    product: str
    line: str
    station: str
    panel: str | None
    verdict: str
    n_fail: int
    n_review: int
    n_undecided: int
    n_sample: int
    n_sample_undecided: int
    worst: float
    cause: str | None
    final: str


class QueueBody(BaseModel):
    """How many boards wait at a stage, and some of them, worst first."""

    waiting: int
    boards: list[QueueEntry]


class RecordBody(BaseModel):
    """One record as the verify station shows it."""

    record: str
    serial: str
    sequence: dict[str, Any]
    verdict: str
    final: str
    product: str
    line: str
    station: str
    panel: str | None
    inspected_at: str
    cause: str | None
    profile: str
    joints: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    columns: list[dict[str, str]]
    measured: dict[str, dict[str, float | None]]
    neighbours: dict[str, dict[str, list[float | None]]]
    decisions: list[dict[str, Any]]
    golden: dict[str, str] | None


class AuditBody(BaseModel):
    """Rows of the audit trail, in order."""

    entries: list[dict[str, Any]]


class ModelReply(BaseModel):
    """The digest of the current model."""

    model: str


class ProofBody(BaseModel):
    """What only the station can answer to a challenge."""

    proof: str


class HealthBody(BaseModel):
    """Whether the service works: `ready`, or what prevents it. A caller without a known token gets no more than `status`."""

    status: str
    workers: int | None = None
    waiting: int | None = None
    model: str | None = None
