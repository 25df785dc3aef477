"""The harness measures what it says: answers are read to their end, loads are counted, processes leave nothing behind."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psutil
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.harness.bentoml_stack import bentoml_of
from benchmarks.harness.load import BenchmarkFailed, Connection, drive, get, parse, percentile, post, wait_for_port
from benchmarks.harness.processes import Process
from benchmarks.harness.report import Finding, at_least, spread, table
from benchmarks.harness.stacks import Run, free_port
from benchmarks.profile_submit import shares
from tests.support.waiting import wait_until

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def server(answer: Callable[[int], bytes | None]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers the n-th request with ``answer(n)``, or closes the connection on None; and the requests it got."""
    got: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve(connection: socket.socket) -> None:
            with connection:
                while data := connection.recv(65_536):
                    got.append(data)
                    said = answer(len(got))
                    if said is None:
                        return
                    connection.sendall(said)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1], got
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("received", [b"", b"HTTP/1.1 202 Acc", ACCEPTED[:-1], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"])
def test_parse_part_of_an_answer_waits(received: bytes) -> None:
    assert parse(received) is None


def test_parse_whole_answer_has_status_and_body() -> None:
    answer = parse(ACCEPTED)
    assert answer is not None
    assert (answer.status, answer.body) == (202, b"{}")


def test_parse_answer_without_length_is_refused() -> None:
    with pytest.raises(BenchmarkFailed, match="Content-Length"):
        parse(b"HTTP/1.1 200 OK\r\n\r\n")


def test_request_has_length_and_headers() -> None:
    assert b"Content-Length: 2\r\n" in post("/v1/jobs", b"{}", {"Prefer": "wait=1"})
    assert post("/v1/jobs", b"{}", {"Prefer": "wait=1"}).endswith(b"Prefer: wait=1\r\n\r\n{}")
    assert get("/healthz").startswith(b"GET /healthz HTTP/1.1\r\nHost: ")


def test_drive_counts_answers_by_status() -> None:
    with server(lambda number: ACCEPTED if number % 2 else ACCEPTED.replace(b"202", b"503")) as (port, got):
        load = drive(port, get("/"), number=2, for_s=0.2)
    assert sum(load.answers.values()) == len(got) == len(load.latencies_s)
    assert set(load.answers) == {202, 503}
    assert load.per_s(202) == pytest.approx(load.answers[202] / load.elapsed_s)


def test_drive_with_a_limit_stops_there() -> None:
    with server(lambda _: ACCEPTED) as (port, got):
        load = drive(port, get("/"), number=4, for_s=30, most=100)
    assert load.answers[202] == len(got) == 100


def test_drive_when_the_server_closes_fails() -> None:
    with server(lambda number: ACCEPTED if number < 5 else None) as (port, _), pytest.raises(BenchmarkFailed, match="closed"):
        drive(port, get("/"), number=1, for_s=5)


def test_answer_in_two_parts_is_read_whole() -> None:
    with server(lambda _: ACCEPTED) as (port, _):
        connection = Connection(port)
        assert [connection.ask(get("/")).status for _ in range(2)] == [202, 202]
        connection.close()


def test_wait_for_port_nobody_listens_fails() -> None:
    with pytest.raises(BenchmarkFailed, match="nothing listens"):
        wait_for_port(free_port(), alive=lambda: None, within_s=0)


def test_process_is_stopped_with_its_children() -> None:
    port = free_port()
    with Process("a web server", ["http.server", str(port), "--bind", "127.0.0.1"], {}) as process:
        wait_for_port(port, alive=process.check)
        assert process.memory().rss_mib > 1
        assert process.cpu_s() > 0
        pid = process.pid
    assert not psutil.pid_exists(pid)


def test_process_that_ended_says_its_last_words() -> None:
    with Process("nothing", ["a_module_that_is_not_there"], {}) as process:
        wait_until(lambda: not psutil.pid_exists(process.pid) or psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, what="the process ends")
        with pytest.raises(BenchmarkFailed, match="No module named a_module_that_is_not_there"):
            process.check()


def test_run_rate_is_from_first_start_to_last_finish() -> None:
    assert Run(jobs=100, began_at=10.0, ended_at=12.0).per_s == 50


def test_percentile_is_by_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (51, 100, 7)


def test_spread_shows_median_and_range() -> None:
    assert spread([3_000.0, 1_000.0, 2_000.0]) == "2,000 (1,000–3,000)"


@pytest.mark.parametrize(("ratio", "kept"), [(2.5, True), (2.49, False)])
def test_at_least_compares_with_the_bar(ratio: float, *, kept: bool) -> None:
    assert at_least(ratio, 2.5) == (f"{ratio:.2f}×", "≥ 2.5×", kept)


def test_table_marks_a_missed_bar() -> None:
    lines = table([Finding("a", "1", "2", "0.50×", "≥ 1×", kept=False), Finding("b", "1")], against="peer").splitlines()
    assert lines[0].split("|")[3].strip() == "peer"
    assert "MISSED" in lines[2]
    assert "MISSED" not in lines[3]
    assert len({len(line) for line in lines}) == 1


def test_command_with_an_unknown_section_names_the_known() -> None:
    result = CliRunner().invoke(main, ["--only", "everything"])
    assert result.exit_code == 2
    assert "held-waits" in result.output


def test_command_without_servers_says_which_is_missing() -> None:
    result = CliRunner().invoke(main, ["--only", "sharing", "--database-url", f"postgresql://nobody@127.0.0.1:{free_port()}/none"])
    assert result.exit_code == 1
    assert "PostgreSQL does not answer" in result.output


def test_shares_sums_samples_by_function() -> None:
    text = shares(["main (a.py:1);work (b.py:2) 3", "main (a.py:1);work (b.py:9) 1"])
    assert "100.0%  work (b.py" in text.split("with what they call")[0]
    assert "100.0%  main (a.py" in text.split("with what they call")[1]


@pytest.mark.parametrize(("python", "there"), [("true", True), ("false", False), ("no-such-python", False)])
def test_bentoml_is_measured_only_by_a_python_that_has_it(python: str, *, there: bool) -> None:
    assert (bentoml_of(python) is not None) is there
