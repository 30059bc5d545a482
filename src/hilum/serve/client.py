"""A client in Python: films in, answers out."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx2

from hilum.errors import HilumError
from hilum.serve.schemas import Deleted, KeptResults, ModelFacts, Prediction

_TRIES = 8


class Client:
    """A connection to a server.

    with Client("http://127.0.0.1:8000") as room:
        answer = room.predict([Path("film.png"), Path("film.dcm")])

    Args:
        url: as `hilum serve` shows it.
        token: as `hilum serve` shows it, off loopback.
        timeout_s: for one request.
        transport: instead of the network, for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 180.0,
        transport: httpx2.BaseTransport | None = None,
    ):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def predict(
        self,
        films: Sequence[Path],
        *,
        point: str | None = None,
        heatmaps: bool = False,
        keep: bool = False,
        force: bool = False,
    ) -> Prediction:
        """Score films: PNG, JPEG, DICOM, or zip files of these. While the server is busy, it waits as it is told.

        Args:
            force: score films that do not fit the model too; `forced` says so.

        Raises:
            HilumError: if the server cannot be reached or refuses, in its words.
        """
        asked = {"heatmaps": heatmaps, "keep": keep, "force": force}
        fields = {name: str(value).lower() for name, value in asked.items()}
        if point is not None:
            fields["point"] = point
        files = [("films", (path.name, path.read_bytes())) for path in films]
        for _ in range(_TRIES):
            response = self._ask("POST", "/v1/predict", files=files, fields=fields)
            if response.status_code != 429:
                break
            time.sleep(float(response.headers.get("retry-after", "1")))
        return Prediction.model_validate_json(_content(response))

    def model(self) -> ModelFacts:
        """The model that answers.

        Raises:
            HilumError: see predict.
        """
        return ModelFacts.model_validate_json(_content(self._ask("GET", "/v1/model")))

    def results(self) -> KeptResults:
        """The newest hundred of the results that were kept.

        Raises:
            HilumError: see predict.
        """
        return KeptResults.model_validate_json(_content(self._ask("GET", "/v1/results")))

    def delete(self, name: str | None = None) -> Deleted:
        """Delete a kept result by its id, or all.

        Raises:
            HilumError: see predict; also if there is no such result.
        """
        place = "/v1/results" if name is None else f"/v1/results/{name}"
        return Deleted.model_validate_json(_content(self._ask("DELETE", place)))

    def _ask(
        self,
        method: str,
        place: str,
        files: Sequence[tuple[str, tuple[str, bytes]]] | None = None,
        fields: dict[str, str] | None = None,
    ) -> httpx2.Response:
        try:
            return self._http.request(method, place, files=files, data=fields)
        except httpx2.HTTPError as error:
            raise HilumError(f"server must answer at {self._http.base_url}, but: {error}. Is hilum serve up?") from None


def _content(response: httpx2.Response) -> bytes:
    if response.is_success:
        return response.content
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.reason_phrase
    raise HilumError(f"request must be one that the server takes, got {response.status_code}: {detail}")
