"""IPC-HERMES-9852 with a machine of our own behind the station: boards in order, quality, and what the protocol forbids."""

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.messages import hermes
from inspect_pop.messages.hermes import HermesFault, Lane, decode, encode, parse_address, serve_lane
from inspect_pop.station.serve import run_publisher
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.store import Decision, Store, open_store
from tests.factories import make_inspection

HELLO = encode("ServiceDescription", (), MachineId="behind", LaneId="1", Version="1.2")
BOARD = {"BoardId": str(uuid.UUID(int=1)), "BoardIdCreatedBy": "AXI", "FailedBoard": "2", "FlippedBoard": "0", "TopBarcode": "S1"}
OTHER = BOARD | {"BoardId": str(uuid.UUID(int=2)), "FailedBoard": "1", "TopBarcode": "S2"}


def tags(messages: list[bytes]) -> list[str]:
    return [decode(message)[0] for message in messages]


def make_lane() -> Lane:
    lane = Lane("AXI")
    assert tags(lane.receive(HELLO)) == ["ServiceDescription"]
    return lane


def transport(lane: Lane, board: dict[str, str], state: str = "3") -> list[bytes]:
    sent = lane.receive(encode("StartTransport", BoardId=board["BoardId"]))
    return sent + lane.receive(encode("StopTransport", TransferState=state, BoardId=board["BoardId"]))


def test_a_message_is_what_the_standard_shows() -> None:
    root = ElementTree.fromstring(encode("BoardAvailable", **BOARD))
    assert (root.tag, root[0].tag, root[0].attrib) == ("Hermes", "BoardAvailable", BOARD)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", root.get("Timestamp") or "")


def test_the_sample_of_the_standard_is_read(shared: Path) -> None:
    tag, values, _ = decode((shared / "formats/hermes/BoardAvailable.xml").read_bytes())
    assert tag == "BoardAvailable" and values["FailedBoard"] in {"0", "1", "2"}


def test_boards_are_announced_one_after_the_other() -> None:
    lane = make_lane()
    assert tags(lane.offer(BOARD)) == ["BoardAvailable"]
    assert lane.offer(OTHER) == []
    sent = transport(lane, BOARD)
    assert tags(sent) == ["TransportFinished", "BoardAvailable"]
    assert decode(sent[1])[1] == OTHER
    assert tags(transport(lane, OTHER)) == ["TransportFinished"]
    assert list(lane.waiting) == []


def test_a_transport_that_was_not_started_leaves_the_board() -> None:
    lane = make_lane()
    lane.offer(BOARD)
    assert tags(transport(lane, BOARD, state="1")) == ["TransportFinished", "BoardAvailable"]


def test_news_of_a_board_that_waits_revoke_it_first() -> None:
    lane = make_lane()
    lane.offer(BOARD)
    lane.offer(OTHER)
    assert lane.offer(BOARD) == []
    sent = lane.offer(BOARD | {"FailedBoard": "1"})
    assert tags(sent) == ["RevokeBoardAvailable", "BoardAvailable"] and decode(sent[1])[1]["FailedBoard"] == "1"
    assert lane.offer(OTHER | {"FailedBoard": "2"}) == [] and lane.waiting[1]["FailedBoard"] == "2"


def test_too_many_boards_drop_the_oldest_that_is_not_announced() -> None:
    lane = make_lane()
    for k in range(hermes.WAITING + 3):
        lane.offer(BOARD | {"BoardId": str(uuid.UUID(int=k)), "TopBarcode": f"S{k}"})
    assert [board["TopBarcode"] for board in lane.waiting][:3] == ["S0", "S4", "S5"]


def test_a_question_whether_it_is_alive_is_answered_with_its_number() -> None:
    lane = make_lane()
    (answer,) = lane.receive(encode("CheckAlive", Type="1", Id="77"))
    assert decode(answer)[1] == {"Type": "2", "Id": "77"}
    assert lane.receive(encode("CheckAlive")) == [] == lane.receive(encode("CheckAlive", Type="2", Id="77"))
    assert lane.receive(encode("MachineReady", FailedBoard="0")) == [] == lane.receive(encode("SomethingNew"))


@pytest.mark.parametrize(
    "messages",
    [
        [encode("StartTransport", BoardId=BOARD["BoardId"])],
        [HELLO, HELLO],
        [HELLO, encode("StartTransport", BoardId=OTHER["BoardId"])],
        [HELLO, encode("StartTransport")],
        [HELLO, encode("StopTransport", TransferState="3", BoardId=BOARD["BoardId"])],
        [HELLO, encode("StartTransport", BoardId=BOARD["BoardId"]), encode("StartTransport", BoardId=BOARD["BoardId"])],
    ],
)
def test_what_the_protocol_forbids_is_refused(messages: list[bytes]) -> None:
    lane = Lane("AXI")
    lane.offer(BOARD)
    for message in messages[:-1]:
        lane.receive(message)
    with pytest.raises(HermesFault):
        lane.receive(messages[-1])


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE h [<!ENTITY a "b">]><Hermes><A x="&a;"/></Hermes>',
        '<!DOCTYPE h [<!ENTITY a "b">]><Hermes><A x="&a;"/></Hermes>'.encode("utf-16"),
        b"<Hermes><A/><B/></Hermes>",
        b"<Hermes></Hermes>",
        b"<Other><A/></Other>",
        b"<Hermes><A></Hermes>",
        b"\xff\xfe</Hermes>",
        b"",
        b"<Hermes><A x='" + b"x" * 65_536 + b"'/></Hermes>",
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(HermesFault):
        decode(data)


def test_signs_that_xml_cannot_hold_are_left_out_and_others_kept() -> None:
    text = "A\x1b[2J\x00\ud800\ufffe<&\"'> \u677f"
    assert decode(encode("BoardAvailable", TopBarcode=text))[1] == {"TopBarcode": "A[2J<&\"'> \u677f"}


def test_addresses() -> None:
    assert [parse_address(t) for t in ("10.0.0.5:50102", "10.0.0.5", "[::1]:7")] == [
        ("10.0.0.5", 50102),
        ("10.0.0.5", 50101),
        ("::1", 7),
    ]
    for text in ("", ":7", "a:b", "a:70000"):
        with pytest.raises(UsageFault, match="HOST:PORT"):
            parse_address(text)


# With a machine behind


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "r.db") as opened:
        yield opened


class Machine:
    """A machine behind the station, which reads whole messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> tuple[str, dict[str, str]]:
        data = await asyncio.wait_for(self.reader.readuntil(b"</Hermes>"), 20)
        return decode(data)[:2]

    def send(self, *messages: bytes) -> None:
        self.writer.writelines(messages)


def talk(store: Store, what: Callable[[int], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hermes, "POLL_S", 0.01)

    async def run() -> None:
        async with serve_lane(("127.0.0.1", 0), store, "AXI 1") as port:
            await what(port)

    asyncio.run(run())


async def connect(port: int) -> Machine:
    return Machine(*await asyncio.open_connection("127.0.0.1", port))


def add(store: Store, serial: str, **how: object) -> str:
    return store.write(make_inspection(serial, side={"lower": 2, "upper": 2}, **how)).record


def test_a_machine_learns_of_each_board_and_whether_it_failed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "S0")

    async def run(port: int) -> None:
        machine = await connect(port)
        machine.send(HELLO[:40])
        machine.send(HELLO[40:])
        tag, values = await machine.read()
        assert (tag, values["MachineId"], values["LaneId"]) == ("ServiceDescription", "AXI 1", "1")
        record = add(store, "S1", defects={"U1.lower.A1": "open"})
        add(store, "S2")
        add(store, "S3", reviews={"U1.lower.A1": "unsure"})
        seen = []
        for _ in range(3):
            tag, values = await machine.read()
            seen.append((tag, values["TopBarcode"], values["FailedBoard"]))
            stop = encode("StopTransport", TransferState="3", BoardId=values["BoardId"])
            machine.send(encode("MachineReady"), encode("StartTransport", BoardId=values["BoardId"]), stop)
            assert await machine.read() == ("TransportFinished", {"TransferState": "3", "BoardId": values["BoardId"]})
        assert seen == [("BoardAvailable", "S1", "2"), ("BoardAvailable", "S2", "1"), ("BoardAvailable", "S3", "0")]
        decision = Decision(record, "U1", "lower", "A1", "DefectRejected", "Ada", "2026-01-02T03:04:05+00:00")
        store.add_decision(decision)  # of a board that has gone
        add(store, "S4")
        assert (await machine.read())[1]["TopBarcode"] == "S4"
        machine.writer.close()

    talk(store, run, monkeypatch)


def test_a_second_machine_is_refused_and_one_that_breaks_the_protocol_disconnected(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(port: int) -> None:
        first, second = await connect(port), None
        first.send(HELLO)
        await first.read()
        second = await connect(port)
        assert (await second.read())[1]["NotificationCode"] == "2"
        assert await second.reader.read() == b""
        first.send(b"x" * 70_000)
        assert (await first.read())[1]["NotificationCode"] == "1"
        assert await first.reader.read() == b""
        third = await connect(port)
        third.send(HELLO)
        assert (await third.read())[0] == "ServiceDescription"
        for machine in (first, second, third):
            machine.writer.close()

    talk(store, run, monkeypatch)


def test_a_machine_that_is_silent_is_asked_and_then_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hermes, "SILENCE_S", 0.05)
    monkeypatch.setattr(hermes, "ANSWER_S", 0.5)

    async def run(port: int) -> None:
        machine = await connect(port)
        machine.send(encode("ServiceDescription", ("FeatureCheckAliveResponse",), MachineId="b", LaneId="1", Version="1.2"))
        assert [(await machine.read())[0] for _ in range(2)] == ["ServiceDescription", "CheckAlive"]
        assert await machine.reader.read() == b""
        machine.writer.close()

    talk(store, run, monkeypatch)


def test_one_that_does_not_describe_itself_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hermes, "GREETING_S", 0.05)

    async def run(port: int) -> None:
        machine = await connect(port)
        assert await machine.reader.read() == b""
        machine.writer.close()

    talk(store, run, monkeypatch)


def test_one_that_only_asks_keeps_no_lane(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hermes, "GREETING_S", 0.3)

    async def run(port: int) -> None:
        machine = await connect(port)
        asked = encode("CheckAlive", Type="1", Id="7")
        try:
            async with asyncio.timeout(60):
                while not machine.reader.at_eof():
                    with suppress(ConnectionError):
                        machine.send(asked)
                        await machine.writer.drain()
                    with suppress(TimeoutError, ConnectionError):
                        await asyncio.wait_for(machine.reader.read(1 << 16), 0.05)
                    await asyncio.sleep(0.01)
        finally:
            machine.writer.close()

    talk(store, run, monkeypatch)


def test_the_service_tells_the_machine_that_it_stops(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        settings = ServiceSettings((tmp_path,), str(tmp_path / "r.db"), hermes="127.0.0.1:0")
        with pytest.raises(UsageFault, match="HOST:PORT"):
            async with run_publisher(ServiceSettings((tmp_path,), settings.store, hermes="nowhere:x"), store):
                pass
        async with run_publisher(settings, store), serve_lane(("127.0.0.1", 0), store, "AXI") as port:
            machine = await connect(port)
            machine.send(HELLO)
            await machine.read()
        assert (await machine.read())[1]["NotificationCode"] == "5"
        machine.writer.close()

    asyncio.run(run())
