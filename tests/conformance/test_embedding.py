"""``text.embedding`` by each of its models, on plots of films."""

import math
from pathlib import Path

from tests.conformance.harness import Heard, Loaded
from tests.fixtures.samples import of_films
from workers.backends.base import Inference
from workers.sentences import sentences

TASK = "text.embedding"  # every model of this task is tested


def _vectors(loaded: Loaded, texts: list[str]) -> list[list[float]]:
    dumped = loaded.one({"texts": texts}).output.model_dump()
    vectors: list[list[float]] = dumped["embeddings"]
    assert {len(vector) for vector in vectors} == {dumped["dimensions"]}
    return vectors


def _cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_vectors_have_unit_length(loaded: Loaded) -> None:
    for vector in _vectors(loaded, ["a mill pond", "x", "word " * 400]):
        assert math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-5)


def test_a_plot_goes_on_nearest_to_its_beginning(loaded: Loaded, store_dir: Path) -> None:
    plots = [plot for plot in ([str(sentence) for sentence in sentences(plot)] for plot in of_films(store_dir, "plot")) if len(plot) >= 4][:24]
    begin, end = (_vectors(loaded, [" ".join(plot[part]) for plot in plots]) for part in (slice(0, 2), slice(2, 4)))
    likeness = [[_cosine(one, other) for other in end] for one in begin]
    found = [row.index(max(row)) for row in likeness]
    assert sum(place == nearest for place, nearest in enumerate(found)) >= 20, "measured: 24 and 22 of 24; one by chance"


def test_mixed_lengths_in_one_batch_equal_singles_in_order(loaded: Loaded) -> None:
    texts = ["word " * (1 + 37 * index % 90) + str(index) for index in range(40)]
    together = _vectors(loaded, texts)
    for text, vector in zip(texts, together, strict=True):
        assert _cosine(vector, _vectors(loaded, [text])[0]) > 0.999


def test_jobs_of_different_sizes_get_their_own_vectors(loaded: Loaded) -> None:
    jobs = [["one"], ["two", "a much longer text about a mill pond " * 5, "three"], ["four"] * 7]
    results = loaded.results([{"texts": texts} for texts in jobs])
    for texts, result in zip(jobs, results, strict=True):
        assert isinstance(result, Inference)
        vectors = result.output.model_dump()["embeddings"]
        assert len(vectors) == len(texts)
        assert all(_cosine(vector, alone) > 0.999 for vector, alone in zip(vectors, _vectors(loaded, texts), strict=True))


def _tokens(loaded: Loaded, *texts: str) -> int:
    return loaded.one({"texts": list(texts)}).usage.input_tokens


def test_tokens_are_counted_and_capped(loaded: Loaded) -> None:
    words = _tokens(loaded, "hello world")
    assert words == _tokens(loaded, "hello") + 1
    assert _tokens(loaded, "hello world", "hello") == words + _tokens(loaded, "hello")
    assert _tokens(loaded, "word " * 5_000) == loaded.spec.options["max_tokens"]


def test_large_job_tells_its_progress(loaded: Loaded) -> None:
    heard = Heard()
    loaded.one({"texts": ["word " * 40] * 60}, heard=heard)
    done = [entry[1] for entry in heard.progress]
    assert done
    assert done == sorted(done)
    assert {(job, total) for job, _, total in heard.progress} == {(0, 60)}


def test_canceled_large_job_stops_before_its_end(loaded: Loaded) -> None:
    asked = 0

    def stop_at_the_second(_job: int) -> bool:
        nonlocal asked
        asked += 1
        return asked >= 2

    heard = Heard()
    loaded.results([{"texts": ["word " * 40] * 60}], heard=heard, should_stop=stop_at_the_second)
    assert len(heard.progress) == 1
