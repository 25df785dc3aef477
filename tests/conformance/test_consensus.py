"""Texts of several models are compared by meaning, with the real encoder, by the code of a worker's child.

The texts are our own: what models might answer, once in other words and once about something else.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from domain.agreement.comparator import Comparison
from domain.catalogue import Catalogue
from domain.contracts import load_contract
from tests.conformance.harness import Loaded, load
from tests.support.worker_parts import worker_config
from workers.backends.base import TakesEmbedder
from workers.board import Board
from workers.child import BOARD_FILE, PLACES_PER_SLOT, Context

SAYS_SO = "The dam keeps the water back so that the mill can run evenly."
SAYS_SO_TOO = "Thanks to the dam, water is stored, and the mill runs at an even pace."
SAYS_OTHERWISE = "Interest rates were left unchanged by the central bank."


@pytest.fixture(scope="module", params=[True, False], ids=["installed", "not installed"])
def comparison(request: pytest.FixtureRequest, catalogue: Catalogue, store_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Comparison]:
    folder = tmp_path_factory.mktemp("worker")
    config = replace(worker_config(folder), pool="join", catalogue=catalogue, models_dir=store_dir if request.param else folder)
    config.save()
    Board.create(folder / BOARD_FILE, PLACES_PER_SLOT)
    context = Context(folder)
    backend = context.backend("consensus")
    assert isinstance(backend, TakesEmbedder)
    contract = load_contract("domain.task_types.text_generation")
    assert contract.comparator is not None
    asked = contract.input.model_validate({"prompt": "Why is there a dam?"})
    answers = [contract.output.model_validate({"text": text, "finish_reason": "stop"}) for text in (SAYS_SO, SAYS_SO_TOO, SAYS_OTHERWISE)]
    return request.param, contract.comparator.compare(asked, answers, embed=lambda texts: context._embed("minilm-l6", texts))


def test_paraphrases_agree_and_another_subject_does_not(comparison: tuple[bool, Comparison]) -> None:
    with_encoder, compared = comparison
    alike, unlike = compared.matrix[0][1], max(compared.matrix[0][2], compared.matrix[1][2])

    assert compared.method == ("embedding_cosine" if with_encoder else "token_f1")
    assert alike > unlike + (0.5 if with_encoder else 0.1)


def test_encoders_of_other_dimensions_agree_on_the_same_texts_and_not_on_others(
    catalogue: Catalogue, loaded_models: dict[str, Loaded], store_dir: Path
) -> None:
    texts = ["The dam keeps the water back.", "A mill pond holds water back.", "The cat sleeps on the sofa.", "Interest rates rose.", "Banks lend money."]
    names = list(catalogue.models_of_task("text.embedding"))[:2]
    one, other = (loaded_models.setdefault(name, load(catalogue, name, store_dir)) for name in names)
    comparator = catalogue.contracts["text.embedding"].comparator
    assert comparator is not None
    asked = one.read({"texts": texts})
    answers = [one.one({"texts": texts}).output, other.one({"texts": texts}).output, other.one({"texts": texts[::-2] + texts[1::2]}).output]

    compared = comparator.compare(asked, answers)

    assert compared.matrix[0][1] > 0.7, "0.87 when this was written"
    assert compared.matrix[0][2] < compared.matrix[0][1] - 0.3
