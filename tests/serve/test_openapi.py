"""What the server answers to all that its OpenAPI document allows, and to what it does not: as the document says."""

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from servers import ask

EXAMPLES = 40


def test_every_refusal_stands_in_the_document(url: str) -> None:
    document: dict[str, Any] = ask("GET", f"{url}/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            listed = set(operation["responses"])
            assert {"401", "403", "413", "421"} <= listed, path
            if method == "post":
                assert {"400", "408", "422", "429", "500", "503"} <= listed, path
                assert "Retry-After" in operation["responses"]["429"]["headers"]
            refusals = [form for status, form in operation["responses"].items() if status[0] == "4"]
            for refusal in refusals:
                assert refusal["content"]["application/json"]["schema"]["$ref"].endswith("/Refusal"), path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # schemathesis' own
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_route_answers_as_the_document_says(url: str, mode: str) -> None:
    import schemathesis
    from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

    # no document can say which bytes are a film: these refuse others, and predict has a row that says why
    not_said = {path: [positive_data_acceptance] for path in ("/v1/pixels", "/v1/dicom", "/v1/reading")}
    not_said["/v1/predict"] = [negative_data_rejection]
    statuses: Counter[int] = Counter()
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]

        @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(schemathesis.GenerationMode(mode)))
        def answered_as_it_says(case: Any) -> None:
            answer = case.call_and_validate(excluded_checks=not_said.get(case.operation.path), timeout=120)
            statuses[answer.status_code] += 1

        with suppress(Unsatisfiable):  # nothing that can be sent there is wrong
            answered_as_it_says()
    assert set(statuses) <= {200, 400, 404, 422}, statuses
    assert sum(statuses.values()) > EXAMPLES
    assert ask("GET", f"{url}/ready").json() == {"status": "ok"}
