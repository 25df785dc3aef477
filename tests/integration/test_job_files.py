"""Files that jobs read and give: who sees them when, and what is erased when; on a real database and a real folder."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from domain.contracts import Blob, contract_of
from domain.failures import InferenceError
from domain.ids import Prefix, encode
from domain.media import HEAD_BYTES, sniff
from models.identity import new_id
from models.queries.batches import batch_results
from models.queries.claim import ClaimedJob
from models.queries.files import Content, FileView, begin_file, complete_file, delete_file, get_file, list_files
from models.queries.prune import erase_expired
from models.queries.read import get_job, get_thin_jobs
from models.queries.submit import NamedFile
from models.transactions import make_engine, statement, unit_of_work
from storage.objects import ObjectGone, ObjectStore, StoreAway, StoreLocation, StoreRefuses, object_key
from tests.support import sight
from tests.support.jobs import TENANT, claim, fail, give_back, lapse_lease, new_job, run_sql, submit, succeed
from tests.unit.test_media import png
from workers.board import Board
from workers.execution import Bench, parse, run, write_outcomes
from workers.job_files import JobFiles
from workers.maintenance.eraser import Erased, Eraser
from workers.media import BOUNDS, MediaResolver
from workers.outbound.client import OutboundClient
from workers.outbound.resolver import Resolver

OTHER = UUID(int=77)
CONTRACT = contract_of(sight)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, pool_size=4)
    yield engine
    engine.dispose()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(StoreLocation((tmp_path / "files").as_uri()))


@pytest.fixture
def files(engine: Engine, store: ObjectStore) -> JobFiles:
    return JobFiles(engine, store, inline_bytes=200)


def objects(tmp_path: Path) -> int:
    return sum(path.is_file() for path in (tmp_path / "files").rglob("*"))


def upload(engine: Engine, store: ObjectStore, content: bytes = png(), *, tenant_id: UUID = TENANT, retention_s: float = 600.0) -> FileView:
    file_id = new_id()
    key = object_key(tenant_id, file_id)
    with statement(engine) as connection:
        begin_file(connection, file_id=file_id, tenant_id=tenant_id, object_key=key, filename="a.png", size_bytes=1, quota_bytes=1_000_000)
    store.write(key, [content])
    with statement(engine) as connection:
        file = complete_file(connection, file_id=file_id, content=Content(len(content), sniff(content[:HEAD_BYTES]) or "", b"x" * 32), retention_s=retention_s)
    assert file is not None
    return file


def seen(engine: Engine, tenant_id: UUID = TENANT) -> list[UUID]:
    with statement(engine) as connection:
        return [file.id for file in list_files(connection, tenant_id=tenant_id, before=None, limit=10)]


def age(engine: Engine, *, by_s: float = 7_200.0) -> None:
    """Lets time pass for all files, and for the results of all jobs."""
    run_sql(engine, "UPDATE files SET expires_at = expires_at - make_interval(secs => :by_s)", by_s=by_s)
    run_sql(engine, "UPDATE jobs SET expires_at = expires_at - make_interval(secs => :by_s)", by_s=by_s)


def erase(engine: Engine, store: ObjectStore) -> int:
    return Eraser(engine, store, every_s=60.0).run_once().files


def one_job(engine: Engine, *, model: str = "echo", **fields: object) -> ClaimedJob:
    (job_id,) = submit(engine, new_job(model=model, **fields))
    (job,) = claim(engine, job_id, model=model)
    return job


# --- what jobs give


def test_file_of_a_job_appears_with_its_success_and_goes_with_its_result(engine: Engine, store: ObjectStore, files: JobFiles, tmp_path: Path) -> None:
    job = one_job(engine)
    file_id = files.save(job, b'{"a": 1}', "application/json")
    files.keep([file_id])
    assert seen(engine) == []
    succeed(engine, [job])
    assert (seen(engine), seen(engine, OTHER)) == ([file_id], [])
    with statement(engine) as connection:
        file = get_file(connection, tenant_id=TENANT, file_id=file_id)
        view = get_job(connection, tenant_id=TENANT, job_id=job.id)
    assert file is not None
    assert view is not None
    assert (file.job_id, file.expires_at, store.read(file.object_key)) == (job.id, view.expires_at, b'{"a": 1}')

    run_sql(engine, "UPDATE files SET expires_at = now() - interval '1 day'")  # its own moment is no matter
    assert erase(engine, store) == 0
    age(engine)
    with statement(engine) as connection:
        erase_expired(connection, limit=10)
    assert seen(engine) == []
    assert erase(engine, store) == 1
    assert (objects(tmp_path), run_sql(engine, "SELECT FROM files")) == (0, [])


@pytest.mark.parametrize("end", ["fails", "is given back", "dies before the end", "dies in the middle"])
def test_file_of_another_attempt_is_never_seen_and_erased(engine: Engine, store: ObjectStore, files: JobFiles, tmp_path: Path, end: str) -> None:
    job = one_job(engine)
    file_id = files.save(job, b"first", "audio/wav")
    if end != "dies in the middle":
        files.keep([file_id])
    if end == "fails":
        fail(engine, [job])
    else:
        if end != "is given back":
            lapse_lease(engine, job.id)  # as it is with a process that was killed
        give_back(engine, [job])
        (again,) = claim(engine, job.id)
        second = files.save(again, b"second", "audio/wav")
        files.keep([second])
        succeed(engine, [again])
        assert seen(engine) == [second]
    age(engine, by_s=3_700.0)
    run_sql(engine, "UPDATE jobs SET expires_at = now() + interval '1 day'")
    assert erase(engine, store) == 1
    assert objects(tmp_path) == (0 if end == "fails" else 1)


def test_file_of_a_run_that_was_repeated_in_the_same_attempt_is_not_seen(engine: Engine, store: ObjectStore, files: JobFiles) -> None:
    """As after a bisect: the first run raised, so nobody said that its files are to be kept."""
    job = one_job(engine)
    files.save(job, b"first", "audio/wav")
    second = files.save(job, b"second", "audio/wav")
    files.keep([second])
    succeed(engine, [job])
    assert seen(engine) == [second]


def test_file_of_a_job_that_still_runs_is_not_erased(engine: Engine, store: ObjectStore, files: JobFiles) -> None:
    job = one_job(engine)
    file_id = files.save(job, b"slow", "audio/wav")
    age(engine)
    assert erase(engine, store) == 0
    files.keep([file_id])
    succeed(engine, [job])
    assert seen(engine) == [file_id]


def test_job_that_is_another_workers_by_now_gives_no_file(engine: Engine, files: JobFiles, tmp_path: Path) -> None:
    job = one_job(engine)
    with pytest.raises(InferenceError):
        files.save(replace(job, fence=job.fence + 1), b"late", "audio/wav")
    assert (objects(tmp_path), run_sql(engine, "SELECT FROM files")) == (0, [])


# --- what jobs read


def media(files: JobFiles) -> MediaResolver:
    return MediaResolver(OutboundClient(Resolver(threads=1), bounds=BOUNDS), files.store, files.find)


def resolved(files: JobFiles, *pairs: tuple[ClaimedJob, FileView]) -> list[object]:
    inputs = [(job.id, sight.Input.model_validate({"image": {"file_id": encode(Prefix.FILE, file.id)}})) for job, file in pairs]
    found = media(files).resolve(inputs, CONTRACT.media, timeout_s=10.0)
    return [(item.code, item.retryable) if isinstance(item, InferenceError) else item["image"] for item in found]


def test_job_reads_files_of_its_own_tenant_that_are_there(engine: Engine, store: ObjectStore, files: JobFiles) -> None:
    good, theirs, deleted, lost = upload(engine, store), upload(engine, store, tenant_id=OTHER), upload(engine, store), upload(engine, store)
    with statement(engine) as connection:
        assert delete_file(connection, tenant_id=TENANT, file_id=deleted.id)
    store.delete(lost.object_key)
    job = one_job(engine)
    gone = ("input_gone", False)
    assert resolved(files, (job, good), (job, theirs), (job, deleted), (job, lost)) == [Blob(png(), "image/png"), gone, gone, gone]


def test_store_that_is_away_fails_the_run_for_now(engine: Engine, store: ObjectStore, files: JobFiles, tmp_path: Path) -> None:
    file, job = upload(engine, store), one_job(engine)
    (tmp_path / "files").rename(tmp_path / "unmounted")
    assert resolved(files, (job, file)) == [("files_unavailable", True)]
    (tmp_path / "files").write_bytes(b"")
    with pytest.raises(InferenceError) as away:
        files.save(job, b"a", "audio/wav")
    assert (away.value.code, away.value.retryable) == ("files_unavailable", True)


# --- what is erased


def test_file_that_expired_is_kept_for_a_live_job_and_erased_after_it(engine: Engine, store: ObjectStore, files: JobFiles, tmp_path: Path) -> None:
    file = upload(engine, store)
    job = one_job(engine, files=(NamedFile(file.id, "/input/image/file_id", None),))
    age(engine)
    assert seen(engine) == []
    assert erase(engine, store) == 0
    assert resolved(files, (job, file)) == [Blob(png(), "image/png")]
    succeed(engine, [job])
    assert erase(engine, store) == 1
    assert objects(tmp_path) == 0


def test_file_that_a_result_names_is_not_erased_though_an_eraser_comes_late(engine: Engine, store: ObjectStore, files: JobFiles) -> None:
    """After an hour without one, more are due than a pass puts off."""
    jobs = [one_job(engine), one_job(engine), one_job(engine)]
    given = [files.save(job, b"{}", "application/json") for job in jobs]
    files.keep(given)
    succeed(engine, jobs[:2])  # the third still runs
    run_sql(engine, "UPDATE files SET expires_at = now() - interval '2 hours'")
    eraser = Eraser(engine, store, every_s=60.0, limit=1)
    assert sum(eraser.run_once().files for _ in range(4)) == 0
    assert {row.state for row in run_sql(engine, "SELECT state FROM files WHERE expires_at > now()")} == {"ready"}
    assert seen(engine) == sorted(given[:2], reverse=True)


def test_erasing_goes_on_where_another_eraser_died(engine: Engine, store: ObjectStore, tmp_path: Path) -> None:
    class Dies(ObjectStore):
        def delete(self, key: str) -> None:
            super().delete(key)
            raise KeyboardInterrupt("after the object, before the row")

    kept, gone = upload(engine, store), upload(engine, store)
    with statement(engine) as connection:
        delete_file(connection, tenant_id=TENANT, file_id=gone.id)
    with suppress(KeyboardInterrupt):
        erase(engine, Dies(StoreLocation((tmp_path / "files").as_uri())))
    assert len(run_sql(engine, "SELECT FROM files")) == 2
    assert erase(engine, store) == 1
    assert [row.id for row in run_sql(engine, "SELECT id FROM files")] == [kept.id]
    assert store.read(kept.object_key) == png()


class Refusing(ObjectStore):
    """A store that does not let some objects go, whoever asks."""

    refused: frozenset[str] = frozenset()
    why: StoreAway = StoreRefuses("AccessDenied")

    def delete(self, key: str) -> None:
        if key in self.refused:
            raise self.why
        super().delete(key)


def deleted(engine: Engine, store: ObjectStore, count: int) -> list[FileView]:
    """Files that their owner has deleted, one after the other."""
    gone = [upload(engine, store) for _ in range(count)]
    for file in gone:
        with statement(engine) as connection:
            delete_file(connection, tenant_id=TENANT, file_id=file.id)
    return gone


def ahead_s(engine: Engine) -> dict[UUID, float]:
    """In how many seconds the eraser comes to each file."""
    return {row.id: float(row.s) for row in run_sql(engine, "SELECT id, extract(epoch FROM expires_at - now()) + 60 AS s FROM files")}


def test_object_that_cannot_be_deleted_keeps_nobody_waiting_and_is_asked_for_less_and_less_often(engine: Engine, tmp_path: Path) -> None:
    store = Refusing(StoreLocation((tmp_path / "files").as_uri()))
    stuck, *_ = deleted(engine, store, 4)
    store.refused = frozenset({stuck.object_key})
    eraser = Eraser(engine, store, every_s=60.0, limit=2)
    assert [eraser.run_once().files for _ in range(3)] == [1, 2, 0]
    assert [row.id for row in run_sql(engine, "SELECT id FROM files")] == [stuck.id]
    for wait_s in (60.0, 120.0, 240.0, 480.0, 960.0, 1_920.0, 3_600.0, 3_600.0):
        assert ahead_s(engine)[stuck.id] == pytest.approx(wait_s, abs=20.0)
        age(engine, by_s=wait_s + 61.0)
        assert eraser.run_once() == Erased()
    assert seen(engine) == []
    age(engine, by_s=4_000.0)
    store.refused = frozenset()
    assert eraser.run_once().files == 1
    assert objects(tmp_path) == 0


def test_objects_that_are_refused_hold_up_no_other_however_many_they_are(engine: Engine, tmp_path: Path) -> None:
    store = Refusing(StoreLocation((tmp_path / "files").as_uri()))
    *stuck, _, _ = deleted(engine, store, 6)
    store.refused = frozenset(file.object_key for file in stuck)
    eraser = Eraser(engine, store, every_s=60.0, limit=4)
    assert eraser.run_once() == Erased(0, more=False), "a store that refuses all is not asked without a pause"
    assert eraser.run_once() == Erased(2)
    assert {row.id for row in run_sql(engine, "SELECT id FROM files")} == {file.id for file in stuck}


class Halting(ObjectStore):
    """A store that answers every third time."""

    asked = 0

    def delete(self, key: str) -> None:
        self.asked += 1
        if self.asked % 3:
            raise StoreAway("EndpointConnectionError")
        super().delete(key)


def test_store_that_answers_now_and_then_is_not_away(engine: Engine, tmp_path: Path) -> None:
    store = Halting(StoreLocation((tmp_path / "files").as_uri()))
    deleted(engine, store, 5)
    assert Eraser(engine, store, every_s=60.0).run_once() == Erased(1)
    assert store.asked == 5


def test_store_that_does_not_answer_is_away_and_is_not_asked_for_each_object(engine: Engine, tmp_path: Path) -> None:
    store = Refusing(StoreLocation((tmp_path / "files").as_uri()))
    store.why = StoreAway("EndpointConnectionError")
    store.refused = frozenset(file.object_key for file in deleted(engine, store, 5))
    eraser = Eraser(engine, store, every_s=60.0)
    with pytest.raises(StoreAway):
        eraser.run_once()
    assert sorted(wait_s > 0 for wait_s in ahead_s(engine).values()) == [False, False, True, True, True], "three were asked for"
    store.refused = frozenset()
    assert eraser.run_once().files == 2, "whoever was not asked for is next"


def test_upload_that_broke_off_is_erased_after_an_hour(engine: Engine, store: ObjectStore, tmp_path: Path) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield png()
        raise ConnectionError

    file_id = new_id()
    key = object_key(TENANT, file_id)
    with statement(engine) as connection:
        begin_file(connection, file_id=file_id, tenant_id=TENANT, object_key=key, filename=None, size_bytes=1, quota_bytes=1_000_000)
    with suppress(ConnectionError):
        store.write(key, breaks_off())
    with pytest.raises(ObjectGone):
        store.read(key)
    assert objects(tmp_path) == 1
    assert erase(engine, store) == 0
    age(engine, by_s=3_700.0)
    assert erase(engine, store) == 1
    with statement(engine) as connection:
        assert complete_file(connection, file_id=file_id, content=Content(1, "image/png", b"x"), retention_s=60.0) is None
    assert objects(tmp_path) == 0


# --- a whole run


def bench(engine: Engine, files: JobFiles, tmp_path: Path) -> Bench:
    catalogue = sight.sight_catalogue()
    place = Board.create(tmp_path / "board", 1).place(0)

    def write(outcomes: object) -> int:
        return write_outcomes(engine, outcomes)  # type: ignore[arg-type]

    model, task = catalogue.models["sight"], catalogue.tasks["test.sight"]
    return Bench(model, task, CONTRACT, sight.Sight(), write, lambda *_: None, engine, place, media=media(files), files=files)


def sight_job(engine: Engine, file: FileView, batch_id: UUID | None = None, **fields: object) -> ClaimedJob:
    value = sight.Input.model_validate({"image": {"file_id": encode(Prefix.FILE, file.id)}, **fields})
    return one_job(engine, model="sight", task="test.sight", input_json=value.model_dump_json(), batch_id=batch_id)


def test_run_reads_a_file_and_gives_one(engine: Engine, store: ObjectStore, files: JobFiles, tmp_path: Path) -> None:
    job = sight_job(engine, upload(engine, store), copies=True)
    table = bench(engine, files, tmp_path)
    works, _ = parse(table, [job], lambda _: 0)
    assert run(table, works) == 1
    with statement(engine) as connection:
        view = get_job(connection, tenant_id=TENANT, job_id=job.id)
        given = list_files(connection, tenant_id=TENANT, before=None, limit=1)[0]
    assert view is not None
    assert view.output_json == f'{{"bytes":{len(png())},"content_type":"image/png","file_id":"{encode(Prefix.FILE, given.id)}","padding":""}}'
    assert (given.job_id, store.read(given.object_key)) == (job.id, png())


def test_what_jobs_give_counts_as_stored_and_is_taken_all_the_same(engine: Engine, store: ObjectStore, files: JobFiles, tmp_path: Path) -> None:
    def stored() -> int:
        with unit_of_work(engine) as connection:
            found = begin_file(connection, file_id=new_id(), tenant_id=TENANT, object_key="", filename=None, size_bytes=1, quota_bytes=0)
        assert found is not None
        return found

    job = sight_job(engine, upload(engine, store), copies=True)
    before = stored()
    table = bench(engine, files, tmp_path)
    works, _ = parse(table, [job], lambda _: 0)
    assert run(table, works) == 1
    assert stored() == before + len(png())


def test_output_that_is_large_is_given_as_a_file(engine: Engine, store: ObjectStore, files: JobFiles, tmp_path: Path) -> None:
    batch_id = new_id()
    job = sight_job(engine, upload(engine, store), batch_id, padding=500)
    table = bench(engine, files, tmp_path)
    works, _ = parse(table, [job], lambda _: 0)
    assert run(table, works) == 1
    with statement(engine) as connection:
        view = get_job(connection, tenant_id=TENANT, job_id=job.id)
        assert view is not None
        assert view.output_file is not None
        file = get_file(connection, tenant_id=TENANT, file_id=view.output_file)
        (result,) = batch_results(connection, batch_id=batch_id)
        thin, cut = get_thin_jobs(connection, tenant_id=TENANT, ids=[job.id], output_bytes=10)[job.id]
    assert file is not None
    assert {(each.output_file, each.output_file_bytes, each.output_json) for each in (view, result, thin)} == {(file.id, file.size_bytes, "null")}
    assert not cut
    assert file.content_type == "application/json"
    assert sight.Output.model_validate_json(store.read(file.object_key)).padding == "x" * 500
