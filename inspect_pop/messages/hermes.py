"""IPC-HERMES-9852 for a station without a conveyor: it tells the machine behind it which board comes, and whether it failed.

The station is the upstream side of one lane. A machine connects, both describe themselves, and each inspected board is
announced by `BoardAvailable`. The station moves nothing: when the machine starts a transport, the board has left the station,
and `TransportFinished` says so at once. Messages are XML of at most 65,536 bytes, one after the other.
"""

import asyncio
import contextlib
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from xml.etree import ElementTree

from inspect_pop.core.errors import PopError, StoreFault, UsageFault, describe_error
from inspect_pop.store import Store, StoredBoard

__all__ = ["Announcement", "HermesFault", "Lane", "announce", "decode", "encode", "parse_address", "serve_lane"]

MESSAGE_BYTES = 65_536  # the standard's
BASE_PORT = 50_100  # the standard's; the lane is added
VERSION = "1.5"
WAITING = 16  # boards; the machine behind takes one at a time
GREETING_S = 10.0  # within which a machine that connects must describe itself
SILENCE_S = 60.0  # after which the station asks whether the machine is alive
ANSWER_S = 10.0  # within which it must answer or take what was sent
POLL_S = 0.5
_END = b"</Hermes>"
_PROTOCOL_ERROR, _REFUSED, _SHUTDOWN = "1", "2", "5"
_FATAL, _INFORMATION = "1", "4"
_PING, _PONG = "1", "2"
_NOT_STARTED, _COMPLETE = "1", "3"
log = logging.getLogger(__name__)

Announcement = dict[str, str]


class HermesFault(PopError):
    """The machine behind sent what the protocol does not allow; its connection ends."""

    about = "hermes"


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; without a port that of lane 1. Raises `UsageFault`."""
    host, _, port = text.rpartition(":") if ":" in text else (text, "", str(BASE_PORT + 1))
    if not host or not port.isdecimal() or not 0 <= int(port) < 65_536:
        raise UsageFault(f"--hermes {text}", expected="HOST:PORT, such as 10.0.0.5:50101", remedy="50100 and the lane is usual.")
    return host.strip("[]"), int(port)


def encode(tag: str, features: tuple[str, ...] | None = None, /, **values: str | None) -> bytes:
    """Return one message; values that are None are left out. Raises `HermesFault` for one that is too long."""
    root = ElementTree.Element("Hermes", Timestamp=datetime.now().isoformat(timespec="milliseconds"))
    shown = {name: _keep_xml(value) for name, value in values.items() if value is not None}
    body = ElementTree.SubElement(root, tag, shown)
    if features is not None:
        listed = ElementTree.SubElement(body, "SupportedFeatures")
        for name in features:
            ElementTree.SubElement(listed, name)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=False)
    if len(data) > MESSAGE_BYTES:
        raise HermesFault(tag, expected=f"at most {MESSAGE_BYTES:,} bytes", found=f"{len(data):,}")
    return data


def _keep_xml(text: str) -> str:
    """Return a text without the signs that XML 1.0 cannot hold."""
    return "".join(c for c in text if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff"))


def decode(data: bytes) -> tuple[str, dict[str, str], frozenset[str]]:
    """Return tag, attributes and supported features of one message. Raises `HermesFault`."""
    if len(data) > MESSAGE_BYTES:
        raise HermesFault("message", expected=f"at most {MESSAGE_BYTES:,} bytes", found="more")
    if b"<!" in data:  # neither a document type nor entities: the parser expands none
        raise HermesFault("message", expected="plain XML", found="a document type or a comment")
    try:
        root = ElementTree.fromstring(data.decode("utf-8-sig"))  # noqa: S314 (without entities, which UTF-16 would hide, and bounded)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise HermesFault("message", expected="XML", found=str(error)) from error
    if root.tag != "Hermes" or len(root) != 1:
        raise HermesFault("message", expected="Hermes with one element", found=f"{root.tag} with {len(root)}")
    features = frozenset(element.tag for element in root[0].findall("SupportedFeatures/*"))
    return root[0].tag, dict(root[0].attrib), features


def announce(stored: StoredBoard, machine: str) -> Announcement:
    """Return the attributes of a board's `BoardAvailable`: failed unless it was cleared; unknown while it is in review."""
    board = stored.board
    quality = {"pass": "1", "fail": "2"}.get(stored.final, "0")
    fields = {
        "BoardId": str(uuid.uuid5(uuid.NAMESPACE_OID, board.record)),
        "BoardIdCreatedBy": machine,
        "FailedBoard": quality,
        "ProductTypeId": board.product,
        "FlippedBoard": "0",
        "TopBarcode": board.serial,
    }
    return fields | ({"WorkOrderId": board.work_order} if board.work_order else {})


class Lane:
    """The upstream side of a lane: which messages follow from a message, or from a board that comes.

    Args:
        machine: The station's name.
        lane: Its number, from 1.
    """

    def __init__(self, machine: str, lane: int = 1) -> None:
        self._machine, self._lane = machine, lane
        self.waiting: deque[Announcement] = deque(maxlen=WAITING)
        self._state = "not connected"
        self.features: frozenset[str] = frozenset()

    @property
    def is_described(self) -> bool:
        """Whether the machine has described itself."""
        return self._state != "not connected"

    def disconnect(self) -> None:
        """Begin anew: the machine is gone. The board that was announced is announced again to the next one."""
        self._state, self.features = "not connected", frozenset()

    def offer(self, board: Announcement, *, is_new: bool = True) -> list[bytes]:
        """Take a new board, or news of one, which count as long as it waits; return what is to be sent."""
        for place, known in enumerate(self.waiting):
            if known["BoardId"] == board["BoardId"]:
                self.waiting[place] = board
                if place == 0 and known != board and self._state == "available":
                    return [encode("RevokeBoardAvailable"), encode("BoardAvailable", **board)]
                return []
        if not is_new:
            return []
        if len(self.waiting) == WAITING:
            # The first one may be with the machine already; the oldest of the others goes.
            log.warning("a board is not announced: too many wait", extra={"serial": self.waiting[1]["TopBarcode"]})
            del self.waiting[1]
        self.waiting.append(board)
        return self._announce_next()

    def receive(self, data: bytes) -> list[bytes]:
        """Take a message; return what is to be sent. Raises `HermesFault` for what the protocol does not allow now."""
        tag, values, features = decode(data)
        if tag == "CheckAlive":
            return [encode("CheckAlive", Type=_PONG, Id=values.get("Id"))] if values.get("Type") == _PING else []
        if self._state == "not connected":
            if tag != "ServiceDescription":
                raise HermesFault(tag, expected="ServiceDescription first", found=tag)
            self.features, self._state = features, "idle"
            mine = encode(
                "ServiceDescription",
                ("FeatureCheckAliveResponse",),
                MachineId=self._machine,
                LaneId=str(self._lane),
                Version=VERSION,
            )
            return [mine, *self._announce_next()]
        handle = {"StartTransport": self._start, "StopTransport": self._stop, "ServiceDescription": self._refuse}.get(tag)
        return handle(tag, values) if handle is not None else []  # a machine may be ready whenever it likes

    def _announce_next(self) -> list[bytes]:
        if self._state != "idle" or not self.waiting:
            return []
        self._state = "available"
        return [encode("BoardAvailable", **self.waiting[0])]

    def _start(self, tag: str, values: dict[str, str]) -> list[bytes]:
        if self._state != "available" or values.get("BoardId") != self.waiting[0]["BoardId"]:
            self._refuse(tag, values)
        self._state = "transporting"
        return [encode("TransportFinished", TransferState=_COMPLETE, BoardId=values["BoardId"])]

    def _stop(self, tag: str, values: dict[str, str]) -> list[bytes]:
        if self._state != "transporting" or values.get("BoardId") != self.waiting[0]["BoardId"]:
            self._refuse(tag, values)
        if values.get("TransferState") != _NOT_STARTED:
            self.waiting.popleft()
        self._state = "idle"
        return self._announce_next()

    def _refuse(self, tag: str, values: dict[str, str]) -> list[bytes]:
        found = f"{tag} of board {values.get('BoardId', 'none')!r:.60} while {self._state}"
        raise HermesFault(tag, expected="a message of the protocol's order", found=found)


@contextlib.asynccontextmanager
async def serve_lane(address: tuple[str, int], store: Store, machine: str) -> AsyncIterator[int]:
    """Announce the store's new boards to the machine that connects, while the block runs; yield the port.

    Raises:
        UsageFault: The address cannot be bound.
        StoreFault: The store cannot be read.
    """
    server = _LaneServer(Lane(machine), store, machine)
    await asyncio.to_thread(server.begin)
    try:
        listener = await asyncio.start_server(server.serve, *address, limit=MESSAGE_BYTES)
    except OSError as error:
        raise UsageFault(
            f"--hermes {address[0]}:{address[1]}", expected="an address to listen on", found=describe_error(error)
        ) from error
    feeding = asyncio.create_task(server.feed())
    try:
        async with listener:
            yield listener.sockets[0].getsockname()[1]
            feeding.cancel()
            await server.close()
    finally:
        feeding.cancel()


class _LaneServer:
    """One machine at a time on one lane, and the boards of a store for it."""

    def __init__(self, lane: Lane, store: Store, machine: str) -> None:
        self._lane, self._store, self._machine = lane, store, machine
        self._writer: asyncio.StreamWriter | None = None

    def begin(self) -> None:
        """Begin with the next board of the store."""
        self._mark = self._store.find_changes(None)[1]

    async def feed(self) -> None:
        """Offer what is new in the store, until cancelled."""
        while True:
            try:
                for stored in await asyncio.to_thread(self._find_boards):
                    await self._send(self._lane.offer(announce(stored, self._machine), is_new=not stored.decisions))
            except StoreFault as fault:
                log.warning("boards are not announced", extra={"reason": str(fault)})
            await asyncio.sleep(POLL_S)

    def _find_boards(self) -> list[StoredBoard]:
        records, mark = self._store.find_changes(self._mark)
        found = [self._store.record(record) for record in records]
        self._mark = mark
        return [stored for stored in found if stored is not None]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to a machine that connected, until it or the protocol ends; refuse a second one."""
        if self._writer is not None:
            with contextlib.suppress(OSError, TimeoutError):
                await _write(writer, _notify(_REFUSED, _FATAL, "another machine is connected to this lane"))
            writer.close()
            return
        self._writer = writer
        try:
            await self._talk(reader)
        except HermesFault as fault:
            log.warning("a machine was disconnected", extra={"reason": str(fault)})
            with contextlib.suppress(OSError, TimeoutError):
                await _write(writer, _notify(_PROTOCOL_ERROR, _FATAL, str(fault)))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.info("a machine went away", extra={"reason": f"{type(error).__name__}: {error}"})
        finally:
            self._lane.disconnect()
            self._writer = None
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader) -> None:
        clock = asyncio.get_running_loop().time
        greeted_until, wait_s, awaits_answer = clock() + GREETING_S, GREETING_S, False
        while True:
            try:
                data = await asyncio.wait_for(reader.readuntil(_END), wait_s)
            except asyncio.LimitOverrunError as error:
                raise HermesFault("message", expected=f"at most {MESSAGE_BYTES:,} bytes", found="more") from error
            except TimeoutError:
                if awaits_answer or not self._lane.is_described:
                    raise
                awaits_answer = "FeatureCheckAliveResponse" in self._lane.features
                await self._send([encode("CheckAlive", Type=_PING, Id="1") if awaits_answer else encode("CheckAlive")])
                wait_s = ANSWER_S if awaits_answer else SILENCE_S
                continue
            await self._send(self._lane.receive(data.lstrip()))
            # One that only asks whether the station is alive keeps the lane from the machine that belongs to it.
            wait_s = SILENCE_S if self._lane.is_described else max(0.0, greeted_until - clock())
            awaits_answer = False

    async def _send(self, messages: list[bytes]) -> None:
        if self._writer is not None and messages:
            try:
                await _write(self._writer, *messages)
            except (OSError, TimeoutError):
                self._writer.close()

    async def close(self) -> None:
        """Say that the station stops, and disconnect."""
        if self._writer is not None:
            await self._send([_notify(_SHUTDOWN, _INFORMATION, "the station stops")])
            if self._writer is not None:
                self._writer.close()


def _notify(code: str, severity: str, text: str) -> bytes:
    return encode("Notification", NotificationCode=code, Severity=severity, Description=text[:1000])


async def _write(writer: asyncio.StreamWriter, *messages: bytes) -> None:
    writer.writelines(messages)
    await asyncio.wait_for(writer.drain(), ANSWER_S)
