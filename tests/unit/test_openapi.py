"""What ``openapi.json`` says of itself, without a server."""

import re
from functools import cache
from typing import Any

import jsonschema
import pytest
from flask import Flask

from api.errors import STATUS
from api.openapi import contract_name, openapi_document, request_codes
from api.operation import operation_of
from api.routes import BLUEPRINTS
from domain.errors import RequestError
from domain.failures import all_errors
from settings import load_catalogue, load_settings


@cache
def document() -> dict[str, Any]:
    app = Flask("api", static_folder=None)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    assert all(operation_of(view) for view in app.view_functions.values())
    return openapi_document(app, load_catalogue(load_settings()))


def resolved(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}


def test_document_every_reference_leads_somewhere() -> None:
    schemas = document()["components"]["schemas"]
    for name in re.findall(r"'#/components/schemas/([^']+)'", str(document())):
        assert name in schemas


def test_document_names_tell_nothing_of_how_the_code_is_laid_out() -> None:
    assert not re.search(r"task_types|domain[._]|api[._]schemas|pydantic", str(document()))


def test_document_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for methods in document()["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


def test_document_asks_for_a_key_everywhere_under_v1_and_nowhere_else() -> None:
    for path, methods in document()["paths"].items():
        for operation in methods.values():
            assert (operation.get("security", document()["security"]) == []) == (not path.startswith("/v1/"))
            assert ("401" in operation["responses"]) == path.startswith("/v1/")


def test_document_every_code_of_the_api_is_in_the_closed_list() -> None:
    codes = document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert set(request_codes()) <= set(codes)
    answered = {error.code for error in all_errors().values() if issubclass(error, RequestError) and error in STATUS}
    assert answered == set(request_codes())


@pytest.mark.parametrize("task", sorted(load_catalogue(load_settings()).offered))
def test_job_request_every_example_is_valid_and_a_foreign_input_is_not(task: str) -> None:
    request = resolved("JobRequest")
    contracts = load_catalogue(load_settings()).contracts
    for example in contracts[task].examples:
        jsonschema.validate({"task": task, "input": example.input}, request)
        jsonschema.validate(example.input, resolved(contract_name(task, "Input")))
    for wrong in ({"task": task, "input": {"nonsense": 1}}, {"task": task}, {"task": "nope", "input": {}}, {"task": task, "input": {}, "model": "nope"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, request)


def test_request_examples_of_the_document_are_valid() -> None:
    for path, name in (("/v1/jobs", "JobRequest"), ("/v1/batches", "BatchRequest")):
        examples = document()["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert examples
        for example in examples.values():
            jsonschema.validate(example["value"], resolved(name))
