"""Share bundles through a hub of models: push one, fetch one by its address, render its card for the hub."""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hilum.errors import BundleError, HilumError, extras_named
from hilum.messages import messages
from hilum.model.metadata import BUNDLE_JSON, read_bundle_json, read_json_object

SCHEME = "hf://"
CARD = "MODEL_CARD.md"
_FILES = (BUNDLE_JSON, "weights.safetensors", CARD, "README.md")
_EXPORTS = ("openvino-*/*", "onnx-*/*")
"""All that is ever sent or fetched: no code and no pickle."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Address(NamedTuple):
    """A model on the hub: `hf://owner/name@revision`.

    Attributes:
        repository: owner/name.
        revision: a branch, tag or commit; None for the newest.
    """

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_address(text: object) -> bool:
    """Whether a text is meant as an address on the hub."""
    return isinstance(text, str) and text.startswith(SCHEME)


def parse(text: str) -> Address:
    """An address from its text.

    Raises:
        HilumError: if it is none.
    """
    found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", text)
    if found is None:
        raise HilumError(f"address must be hf://owner/name or hf://owner/name@revision, got {text!r}")
    return Address(found[1], found[2])


def fetch(text: str) -> Path:
    """The folder of a model on the hub, fetched into the hub's cache unless it is there.

    Its files are checked when it is opened: bundle.json holds the hash of the weights. The commit is said, so that it
    can be pinned.

    Raises:
        BundleError: if it cannot be had, or holds no bundle.
        MissingExtraError: if the extra [hub] is not installed.
    """
    address = parse(text)
    with extras_named():
        import huggingface_hub
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                address.repository,
                revision=address.revision,
                allow_patterns=[*_FILES, *_EXPORTS],
                endpoint=endpoint(),
                library_name="hilum",
                tqdm_class=None,
            )
        )
    except Exception as error:  # no network, no such model, no right to it: the client has an exception for each
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(
            f"model must be on the hub and within reach, but {address} could not be had: {why}. Check the address, the "
            "network, and for a private model: hf auth login"
        ) from None
    read_bundle_json(folder)
    if address.revision is None or not _COMMIT.fullmatch(address.revision):
        messages().print(f"{address} is at commit {folder.name}. To pin it: {SCHEME}{address.repository}@{folder.name}")
    return folder


def push(run: Path, text: str, *, licence: str, report: Path | None = None, private: bool = False) -> str:
    """Put a bundle and its exports onto the hub with a card that the hub understands; return its pinned address.

    Args:
        run: the bundle's folder.
        text: where to: hf://owner/name, or hf://owner/name@branch.
        licence: of the weights, by the hub's names, such as apache-2.0 or cc-by-nc-4.0.
        report: folder of a report on this bundle, whose results the card states; RUN/report if it is there and None.
        private: whether only its owner may see it, if it is new.

    Raises:
        BundleError: if the folder is no bundle, or damaged.
        HilumError: if the report is of other weights, or the hub refuses.
        MissingExtraError: if the extra [hub] is not installed.
    """
    address = parse(text)
    with extras_named():
        from huggingface_hub import HfApi
    from hilum.model.bundle import load_bundle

    load_bundle(run)  # whole, and of its own hash
    card = hub_card(run, licence=licence, results=_results(run, report))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in _FILES:
            if (run / name).is_file():
                shutil.copy(run / name, folder / name)
        for pattern in _EXPORTS:
            for path in run.glob(pattern):
                (folder / path.parent.name).mkdir(exist_ok=True)
                shutil.copy(path, folder / path.parent.name / path.name)
        (folder / "README.md").write_text(card, encoding="utf-8")
        try:
            hub = HfApi(endpoint=endpoint(), library_name="hilum")
            hub.create_repo(address.repository, private=private, exist_ok=True, repo_type="model")
            made = hub.upload_folder(
                repo_id=address.repository,
                folder_path=folder,
                revision=address.revision,
                commit_message="A bundle of Hilum",
            )
        except Exception as error:  # no network, no right to write: the client has an exception for each
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise HilumError(
                f"hub must take the bundle, but {address} refused it: {why}. Check the address, and: hf auth login"
            ) from None
    return f"{SCHEME}{address.repository}@{made.oid}"


def hub_card(run: Path, *, licence: str, results: dict[str, Any] | None) -> str:
    """The bundle's card with the hub's metadata before it: task, library, licence, and results as a model index.

    Args:
        results: content of report.json on this bundle; None if there is none.
    """
    from huggingface_hub import EvalResult, ModelCardData

    fields = read_bundle_json(run)
    found: list[EvalResult] = []
    for name, one in (results or {}).get("findings", {}).items():
        value = one["auroc"]["value"]
        if value is not None and results is not None:
            found.append(
                EvalResult(
                    task_type="image-classification",
                    dataset_type="chest-x-ray",
                    dataset_name=f"{results['films']} films, split by {results['protocol']}",
                    dataset_split=results["split"],
                    metric_type="roc_auc",
                    metric_name=f"AUROC {name}",
                    metric_value=round(float(value), 4),
                )
            )
    data = ModelCardData(
        language="en",
        license=licence,
        library_name="hilum",
        pipeline_tag="image-classification",
        tags=["chest-x-ray", "radiology", "multi-label"],
        model_name=str(fields["recipe"]["name"]),
        eval_results=found or None,
    )
    card = (run / CARD).read_text(encoding="utf-8") if (run / CARD).is_file() else f"# {fields['recipe']['name']}\n"
    return f"---\n{data.to_yaml()}\n---\n\n{card}"


def _results(run: Path, report: Path | None) -> dict[str, Any] | None:
    folder = report or run / "report"
    if not (folder / "report.json").is_file():
        if report is not None:
            raise HilumError(f"report must be a folder with report.json, got {report}. Leave --report out, or evaluate")
        return None
    content = read_json_object(folder / "report.json")
    if (content.get("model") or {}).get("weights_sha256") != read_bundle_json(run)["weights_sha256"]:
        if report is not None:
            raise HilumError(f"report must be of this bundle, but {report} is of other weights. Evaluate it anew")
        return None
    return content


def endpoint() -> str | None:
    """The hub's address if the environment names one: another company's hub, or a test's."""
    return os.environ.get("HF_ENDPOINT")
