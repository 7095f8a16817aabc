"""CFX 2.1 messages as pydantic models, with the field names, spelling and enumerations of the standard's public SDK.

Unknown fields are refused: a message that validates here holds only what the standard knows. Quantities are in SI units.
`$type` names the .NET type, which the SDK's serialiser expects wherever a field may hold one of several types.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from inspect_pop.core.classes import JOINT_CLASSES

__all__ = [
    "VERSION",
    "Actor",
    "ComponentDesignator",
    "DefectFound",
    "Envelope",
    "FaultCause",
    "FaultOccurred",
    "FaultSeverity",
    "Heartbeat",
    "InspectedUnit",
    "Method",
    "NumericMeasurement",
    "NumericValue",
    "Operator",
    "SamplingInformation",
    "StationFault",
    "TestResult",
    "UnitInspection",
    "UnitPosition",
    "UnitsInspected",
    "VerificationState",
    "WorkCompleted",
    "WorkResult",
    "WorkStarted",
]

VERSION: Literal["2.1"] = "2.1"
_CATEGORIES = f"^({'|'.join(sorted({re.escape(c.cfx_category) for c in JOINT_CLASSES}))})$"


def _type(name: str) -> Any:
    return Field(default=name, validation_alias="$type", serialization_alias="$type")


class TestResult(StrEnum):
    """Result of an inspection, a measurement or a unit."""

    __test__ = False  # for pytest: this is no test class

    PASSED = "Passed"
    FAILED = "Failed"
    ERROR = "Error"
    ABORTED = "Aborted"
    SKIPPED = "Skipped"


class VerificationState(StrEnum):
    """State of a defect after a person verified it."""

    NOT_VERIFIED_YET = "NotVerifiedYet"
    DEFECT_CONFIRMED = "DefectConfirmed"
    DEFECT_REJECTED = "DefectRejected"
    DEFECT_ACCEPTED = "DefectAccepted"
    DEFECT_REPAIRED = "DefectRepaired"
    DEFECT_CLOSED = "DefectClosed"


class Method(StrEnum):
    """Method of an inspection; the standard has none that combines two."""

    HUMAN = "Human"
    AOI = "AOI"
    SPI = "SPI"
    AXI = "AXI"


class Actor(StrEnum):
    """Kind of actor."""

    HUMAN = "Human"
    ROBOT = "Robot"
    REMOTE_SYSTEM = "RemoteSystem"


class WorkResult(StrEnum):
    """Result of a work transaction."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    ABORTED = "Aborted"


class FaultCause(StrEnum):
    """Causes of a stop that this station reports."""

    QUALITY_CHECK = "QualityCheck"
    SOFTWARE_FAILURE = "SoftwareFailure"


class FaultSeverity(StrEnum):
    """Severity of a fault; production stops from Error on."""

    INFORMATION = "Information"
    WARNING = "Warning"
    ERROR = "Error"
    ALARM = "Alarm"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Operator(_Model):
    """The person or system that inspected or decided."""

    OperatorIdentifier: str | None = None
    ActorType: Actor
    LastName: str | None = None
    FirstName: str | None = None
    LoginName: str | None = None


class SamplingInformation(_Model):
    """The sampling plan: every unit is inspected."""

    SamplingMethod: Literal["NoSampling"] = "NoSampling"
    LotSize: float | None = None
    SampleSize: float | None = None


class ComponentDesignator(_Model):
    """A component, or one of its pins, such as `U1.A1`."""

    ReferenceDesignator: str
    UnitPosition: str | None = None
    PartNumber: str | None = None


class NumericValue(_Model):
    """A number in SI units (`m`, `rad`, or `1` for a ratio) with its acceptable range."""

    Value: float
    ValueUnits: Literal["m", "rad", "1"]
    ExpectedValue: float | None = None
    ExpectedValueUnits: str | None = None
    MinimumAcceptableValue: float | None = None
    MinimumAcceptableValueUnits: str | None = None
    MaximumAcceptableValue: float | None = None
    MaximumAcceptableValueUnits: str | None = None


class NumericMeasurement(_Model):
    """One measured number."""

    type_: Literal["CFX.Structures.NumericMeasurement, CFX"] = _type("CFX.Structures.NumericMeasurement, CFX")
    MeasuredValue: NumericValue
    UniqueIdentifier: UUID
    MeasurementName: str
    TimeRecorded: AwareDatetime | None = None
    Sequence: Annotated[int, Field(ge=0)]
    Result: TestResult
    CRDs: str


class DefectFound(_Model):
    """One defect with its measurements (the standard's structure `Defect`)."""

    UniqueIdentifier: UUID
    DefectCode: str
    DefectCategory: Annotated[str, Field(pattern=_CATEGORIES)]
    Description: str
    Comments: str | None = None
    ComponentOfInterest: ComponentDesignator
    DefectImages: tuple[()] = ()
    Priority: Annotated[int, Field(ge=1)]
    ConfidenceLevel: Annotated[float, Field(ge=1, le=100)]
    RelatedMeasurements: tuple[NumericMeasurement, ...] = ()
    RelatedSymptoms: tuple[()] = ()
    Verification: VerificationState
    VerificationDetail: str | None = None


class UnitInspection(_Model):
    """One step of a unit's inspection (the standard's structure `Inspection`)."""

    UniqueIdentifier: UUID
    InspectionName: str
    InspectionStartTime: AwareDatetime | None = None
    InspectionEndTime: AwareDatetime | None = None
    TestProcedure: str | None = None
    Comments: str | None = None
    Result: TestResult
    Verification: VerificationState
    VerificationDetail: str | None = None
    Error: str | None = None
    DefectsFound: tuple[DefectFound, ...] = ()
    Symptoms: tuple[()] = ()
    Measurements: tuple[NumericMeasurement, ...] = ()


class InspectedUnit(_Model):
    """One board. Of its `TotalInspectionCount` steps it lists those that did not pass and the packages' measurements."""

    UnitIdentifier: str
    UnitPositionNumber: int | None = None
    OverallResult: TestResult
    Inspections: tuple[UnitInspection, ...] = ()
    Verification: VerificationState
    TotalInspectionCount: Annotated[int, Field(ge=0)]


class UnitsInspected(_Model):
    """`CFX.Production.TestAndInspection.UnitsInspected`."""

    type_: Literal["CFX.Production.TestAndInspection.UnitsInspected, CFX"] = _type(
        "CFX.Production.TestAndInspection.UnitsInspected, CFX"
    )
    PrimaryIdentifier: str | None = None
    HermesIdentifier: str | None = None
    TransactionId: UUID
    InspectionMethod: Method
    SamplingInformation: SamplingInformation
    Inspector: Operator
    RecipeName: str
    RecipeRevision: str | None = None
    InspectedUnits: tuple[InspectedUnit, ...]


class UnitPosition(_Model):
    """A unit within a work transaction; coordinates are in millimetres, as in the standard."""

    UnitIdentifier: str
    PositionNumber: int
    PositionName: str | None = None
    X: float = 0.0
    Y: float = 0.0
    Rotation: float = 0.0
    FlipX: bool = False
    FlipY: bool = False


class WorkStarted(_Model):
    """`CFX.Production.WorkStarted`."""

    type_: Literal["CFX.Production.WorkStarted, CFX"] = _type("CFX.Production.WorkStarted, CFX")
    PrimaryIdentifier: str | None = None
    HermesIdentifier: str | None = None
    TransactionID: UUID
    Lane: int | None = None
    UnitCount: int
    Units: tuple[UnitPosition, ...]


class WorkCompleted(_Model):
    """`CFX.Production.WorkCompleted`."""

    type_: Literal["CFX.Production.WorkCompleted, CFX"] = _type("CFX.Production.WorkCompleted, CFX")
    PrimaryIdentifier: str | None = None
    HermesIdentifier: str | None = None
    TransactionID: UUID
    Result: WorkResult


class StationFault(_Model):
    """A fault of the station (the standard's structure `Fault`)."""

    type_: Literal["CFX.Structures.Fault, CFX"] = _type("CFX.Structures.Fault, CFX")
    Cause: FaultCause
    Severity: FaultSeverity
    FaultCode: str
    FaultOccurrenceId: UUID
    Lane: int | None = None
    Stage: str | None = None
    Description: str | None = None
    OccurredAt: AwareDatetime | None = None


class FaultOccurred(_Model):
    """`CFX.ResourcePerformance.FaultOccurred`."""

    type_: Literal["CFX.ResourcePerformance.FaultOccurred, CFX"] = _type("CFX.ResourcePerformance.FaultOccurred, CFX")
    Fault: StationFault


class Heartbeat(_Model):
    """`CFX.Heartbeat`: the station runs; its active faults."""

    type_: Literal["CFX.Heartbeat, CFX"] = _type("CFX.Heartbeat, CFX")
    CFXHandle: str
    HeartbeatFrequency: Annotated[str, Field(pattern=r"^\d{2}:\d{2}:\d{2}$")]
    ActiveFaults: tuple[StationFault, ...] = ()


Body = Annotated[UnitsInspected | WorkStarted | WorkCompleted | FaultOccurred | Heartbeat, Field(discriminator="type_")]


class Envelope(_Model):
    """The envelope of every message. `UniqueID` follows from the record: a message that is sent twice keeps its identifier."""

    MessageName: str
    Version: Literal["2.1"] = VERSION
    TimeStamp: AwareDatetime
    UniqueID: UUID
    Source: str | None = None
    Target: str | None = None
    RequestID: str | None = None
    MessageBody: Body

    def to_json(self) -> str:
        """Return the message as it is sent: one line of JSON."""
        return self.model_dump_json(by_alias=True)
