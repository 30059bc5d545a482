"""A reader study (MRMC): its table read, its analysis as JSON, tables and a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum import DISCLAIMER, __version__
from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.evaluation.compare import TextTable
from hilum.evaluation.page import page_environment
from hilum.evaluation.views import Cell, forest, interval, plural, shown_p, signed_interval, signed_number
from hilum.files import write_whole
from hilum.metrics.bootstrap import estimate_json, number_json
from hilum.metrics.readers import Test, read_study

COLUMNS = ("reader", "modality", "film", "score")

_EXAMPLE = "A file looks like this: reader,modality,film,score,label and then a line per reading."


def read_readings(path: Path, films: Films | None = None, finding: str = "") -> pd.DataFrame:
    """The readings: reader, modality, film, score, label and patient.

    Args:
        films, finding: where label and patient come from; None if the table has a column `label`, and `patient` or
            one film a patient.

    Raises:
        HilumError: naming what is missing, double or no number.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"film": str})
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise HilumError(f"readings must be CSV or Parquet, got {path}: {str(error).splitlines()[0]}") from None
    table.columns = [str(name).strip().lower() for name in table.columns]
    lacking = [name for name in (*COLUMNS, *(() if films else ("label",))) if name not in table]
    if lacking:
        raise HilumError(
            f"readings must have a column {lacking[0]!r}, got {', '.join(table.columns)} in {path}. {_EXAMPLE}"
        )
    table["film"] = table["film"].astype(str)
    numbers = pd.to_numeric(table["score"], errors="coerce").astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if wrong.size:
        raise HilumError(
            f"score must be a number, got {table['score'].iloc[wrong[0]]!r} in {path}, row {wrong[0] + 2}."
        )
    table["score"] = numbers
    if films is not None:
        if finding not in films.findings:
            raise HilumError(f"finding must be one of the manifest's ({', '.join(films.findings)}), got {finding!r}.")
        truth = films.table.set_index("film")
        unknown = sorted(set(table["film"]) - set(truth.index))
        if unknown:
            raise HilumError(
                f"film must be in the manifest, got {unknown[0]!r} in {path}. Write the manifest's own ids."
            )
        table["label"] = truth[finding].reindex(table["film"]).to_numpy()
        table["patient"] = truth["patient"].reindex(table["film"]).to_numpy()
    elif "patient" not in table:
        table["patient"] = table["film"]
    table["label"] = pd.to_numeric(table["label"], errors="coerce")
    bad = table[~table["label"].isin([0, 1])]
    if len(bad):
        raise HilumError(
            f"label must be 0 or 1, got {bad['label'].iloc[0]} for film {bad['film'].iloc[0]!r} in {path}."
        )
    return table


def reader_study(table: pd.DataFrame, *, finding: str = "") -> dict[str, Any]:
    """Obuchowski and Rockette's analysis of readings, in plain JSON:

        films, patients, positives, positive_patients, readers, modalities (names), finding, why
        auroc: {MODALITY: {mean: ESTIMATE, by_reader: {READER: value}}}
        components: {modality, reader, interaction, variance, cov1, cov2, cov3}
        tests: {both, patients, readers: {f, degrees, p_value}}    what is drawn; degrees null for infinite
        pairs: [{first, second, difference: ESTIMATE, p_value, by_reader: {READER: ESTIMATE}}]    second minus first

    Raises:
        HilumError: if a reader has not read each film once in each modality, or there are too few of either.
    """
    names = {name: sorted(table[name].astype(str).unique()) for name in ("modality", "reader", "film")}
    keys = [table[name].astype(str) for name in ("modality", "reader", "film")]
    twice = table[pd.concat(keys, axis=1).duplicated().to_numpy()]
    if len(twice):
        one = twice.iloc[0]
        raise HilumError(
            f"readings must be one for each reader, modality and film, got two of {one['film']!r} by {one['reader']!r}."
        )
    index = pd.MultiIndex.from_product([*names.values()])
    scores = pd.Series(table["score"].to_numpy(dtype=np.float64), index=pd.MultiIndex.from_arrays(keys)).reindex(index)
    if scores.isna().any():
        modality, reader, film = scores.index[scores.isna()][0]
        raise HilumError(
            f"readings must be of all films by all readers in all modalities, got none of {film!r} by {reader!r} in "
            f"{modality!r}. Leave the film out, or the reader."
        )
    truth = table.assign(film=table["film"].astype(str)).groupby("film")[["label", "patient"]].agg(["first", "nunique"])
    uneven = truth.index[(truth["label"]["nunique"] > 1) | (truth["patient"]["nunique"] > 1)]
    if len(uneven):
        raise HilumError(f"film must have one label and one patient, got several of {uneven[0]!r}.")
    truth = truth.loc[names["film"]]
    labels = truth["label"]["first"].to_numpy(dtype=np.float64)
    patients = truth["patient"]["first"].astype(str).to_numpy(dtype=str)
    shape = tuple(len(one) for one in names.values())
    try:
        found = read_study(scores.to_numpy(dtype=np.float64).reshape(shape), labels, patients)
    except ValueError as error:
        raise HilumError(f"{error}. {_EXAMPLE}") from None
    modalities, readers = names["modality"], names["reader"]
    return {
        "hilum": __version__,
        "disclaimer": DISCLAIMER,
        "finding": finding,
        "films": len(labels),
        "patients": len(set(patients)),
        "positives": int(labels.sum()),
        "positive_patients": len(set(patients[labels == 1])),
        "readers": readers,
        "modalities": modalities,
        "why": found.why,
        "auroc": {
            name: {
                "mean": estimate_json(found.modalities[i]),
                "by_reader": {reader: float(found.aurocs[i, j]) for j, reader in enumerate(readers)},
            }
            for i, name in enumerate(modalities)
        },
        "components": found.components._asdict(),
        "tests": {name: _test(getattr(found, name)) for name in ("both", "patients", "readers")},
        "pairs": [
            {
                "first": modalities[pair.first],
                "second": modalities[pair.second],
                "difference": estimate_json(pair.difference),
                "p_value": number_json(pair.p_value),
                "by_reader": {reader: estimate_json(one) for reader, one in zip(readers, single, strict=True)},
            }
            for pair, single in zip(found.pairs, found.single, strict=True)
        ],
    }


def _test(test: Test) -> dict[str, Any]:
    below = None if np.isinf(test.degrees[1]) else test.degrees[1]
    return {"f": number_json(test.f), "degrees": [test.degrees[0], below], "p_value": number_json(test.p_value)}


_DRAWN = {
    "both": "readers and patients",
    "patients": "patients, for these readers alone",
    "readers": "readers, for these patients alone",
}


def study_sentences(study: dict[str, Any]) -> list[str]:
    """What was found, in plain sentences."""
    counted = (
        f"{plural(len(study['readers']), 'reader')} read {plural(study['films'], 'film')} of "
        f"{plural(study['patients'], 'patient')} ({study['positives']:,} films of {study['positive_patients']:,} with "
        f"{study['finding'] or 'the finding'}) in {len(study['modalities'])} modalities."
    )
    if study["why"]:
        return [counted, f"No interval and no test: {study['why']}."]
    sentences = [counted]
    for pair in study["pairs"]:
        gap = pair["difference"]
        said = f"{signed_number(gap['value'])} ({signed_interval(gap)}, p {shown_p(pair['p_value'])})"
        clear = not gap["low"] <= 0 <= gap["high"]
        sentences.append(
            f"Mean AUROC of {pair['second']} minus that of {pair['first']}: {said}. "
            + ("Chance does not explain it." if clear else "These readers and patients do not tell them apart.")
        )
    if len(study["modalities"]) > 2:
        sentences.append("The pairs' p-values are not corrected: the test of all modalities together comes first.")
    return sentences


def study_tables(study: dict[str, Any]) -> list[TextTable]:
    """AUROC by reader, then the tests."""
    modalities = study["modalities"]
    rows = [
        [reader, *(f"{study['auroc'][name]['by_reader'][reader]:.3f}" for name in modalities)]
        for reader in study["readers"]
    ]
    means = [study["auroc"][name]["mean"] for name in modalities]
    rows.append(["mean", *(f"{one['value']:.3f} [{interval(one)}]" for one in means)])
    tests = [
        [
            _DRAWN[name],
            "undefined" if one["f"] is None else f"{one['f']:.3f}",
            f"{one['degrees'][0]:.0f}, " + ("infinite" if one["degrees"][1] is None else f"{one['degrees'][1]:.2f}"),
            shown_p(one["p_value"]),
        ]
        for name, one in study["tests"].items()
    ]
    return [
        TextTable("AUROC", ["reader", *modalities], rows),
        TextTable("Do the modalities differ?", ["drawn", "F", "degrees", "p"], tests),
    ]


def write_study(study: dict[str, Any], folder: Path) -> None:
    """Write readers.json and readers.html (a self-contained page).

    Raises:
        HilumError: if the folder cannot be written to.
    """
    text = json.dumps(study, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    plots = [
        forest(
            f"AUROC: {pair['second']} minus {pair['first']}",
            [
                (Cell("All readers", "readers and patients drawn"), pair["difference"]),
                *((Cell(reader, "this reader alone"), one) for reader, one in pair["by_reader"].items()),
            ],
            nothing="undefined",
            first="Reader",
        )
        for pair in study["pairs"]
    ]
    page = (
        page_environment()
        .get_template("readers.html")
        .render(
            content=study,
            kind="reader study",
            sentences=study_sentences(study),
            tables=study_tables(study),
            forests=[plot for plot in plots if plot],
        )
    )
    write_whole(folder / "readers.json", text.encode())
    write_whole(folder / "readers.html", page.encode())
