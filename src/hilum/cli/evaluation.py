"""Commands that evaluate models and compare them."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.console import (
    Changes,
    DeviceChoice,
    FilmsFile,
    Json,
    Seed,
    ViewsChoice,
    check_choice,
    print_json,
    print_report,
    print_table,
    say,
)
from hilum.errors import HilumError


def evaluate(
    model: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|PREDICTIONS...",
            help="A bundle, or CSV or Parquet of scores; several are trainings with other seeds, or all folds.",
        ),
    ],
    films: FilmsFile,
    out: Annotated[Path, typer.Option(help="Folder for report.json, report.html and roc.png.")] = Path("report"),
    split: Annotated[str, typer.Option(help="Which films to evaluate.")] = "test",
    bootstrap_samples: Annotated[
        int,
        typer.Option(
            "--bootstrap-samples",
            "--draws",
            min=100,
            help="Patient-clustered bootstrap samples for localization; the rest needs none.",
        ),
    ] = 1000,
    seed: Seed = 0,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Evaluate what has scores; the rest is counted.")
    ] = False,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Leave out scores of films that the manifest lacks.")
    ] = False,
    prevalence: Annotated[
        list[str] | None,
        typer.Option(help="PPV and NPV at this prevalence too: 0.02, or Mass=0.02; may be repeated."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Radiologists' labels of some of the films, CSV or Parquet, to evaluate against as well."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="REPORT", help="Folder of this model's report on other films, to compare with."),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Scores of the same system on validation films of FILMS: thresholds are chosen on them."),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="Evaluate calls at this threshold: 0.3, or Mass=0.3; may be repeated."),
    ] = None,
    gallery: Annotated[
        bool, typer.Option(help="Put some films with heatmaps and true boxes on the page and into report.json.")
    ] = True,
    views: ViewsChoice = "PA,AP,unknown",
    device: DeviceChoice = "auto",
    as_json: Json = False,
) -> None:
    """Evaluate a bundle, or anyone's predictions, on the test split. Writes report.json and report.html.

    Example: hilum evaluate runs/nih-small --films films.parquet --out report
    """
    from typing import get_args

    from hilum.data.films import read_films
    from hilum.evaluation.evaluate import evaluate_to_folder
    from hilum.evaluation.external import shift_table
    from hilum.evaluation.reference import reference_table
    from hilum.model.devices import Device
    from hilum.model.thresholds import stated_prevalence

    check_choice("device", device, get_args(Device))
    manifest = read_films(films)
    report = evaluate_to_folder(
        model,
        manifest,
        out,
        split=split,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
        allow_missing=allow_missing,
        allow_unknown=allow_unknown,
        prevalence=stated_prevalence(prevalence or [], manifest.findings),
        reference=reference,
        against=against,
        gallery=gallery,
        validation=validation,
        thresholds=threshold or [],
        views=views.split(","),
        device=device,  # type: ignore[arg-type]
    )
    if as_json:
        print_json(report)
        return
    print_report(report)
    if report["reference"]:
        print_table(*reference_table(report["reference"]))
    if report["shift"]:
        print_table(*shift_table(report["shift"]))
        for note in report["shift"]["notes"]:
            say(note)
    say(f"The report is in {out / 'report.html'}. Research software, not a medical device.")


def report(
    folder: Annotated[Path, typer.Argument(metavar="REPORT", help="A folder that `hilum evaluate` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and roc.png; REPORT if not given.")] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write report.pdf too. Needs Chromium.")] = False,
    card: Annotated[Path | None, typer.Option(help="File for the model card, in Markdown.")] = None,
    checklist: Annotated[
        list[str] | None,
        typer.Option(help="claim, tripod-ai or stard-ai, filled as far as the report knows; may be repeated."),
    ] = None,
) -> None:
    """Render a report's page, PDF, model card and reporting checklists anew from its report.json.

    Example: hilum report report --pdf --card MODEL_CARD.md
    """
    from hilum.evaluation.render import render_saved

    for path in render_saved(folder, out or folder, card=card, pdf=pdf, checklists=checklist or []):
        say(f"Written: {path}")
    say("Research software, not a medical device.")


def compare(
    reports: Annotated[
        list[Path], typer.Argument(metavar="REPORT...", help="Two or more folders that `hilum evaluate` wrote.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.json, .csv and .html.")] = None,
    margin: Annotated[
        float | None, typer.Option(help="Test too that a system is not worse by this much of AUROC: 0.02.")
    ] = None,
    draws: Annotated[int | None, typer.Option(min=100, help="Has no effect any more: nothing is resampled.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Has no effect any more: nothing is random.")] = None,
    as_json: Json = False,
) -> None:
    """Compare reports on the same films: paired differences of AUROC and average precision, intervals and p-values.

    Example: hilum compare reports/densenet reports/am-densenet --out comparison
    """
    from hilum.evaluation.compare import compare_reports, comparison_tables, write_comparison

    unused = [name for name, value in (("--draws", draws), ("--seed", seed)) if value is not None]
    if unused:
        say(
            f"Without effect, and gone in the next release: {', '.join(unused)}. Intervals are computed, not resampled."
        )
    compared = compare_reports(reports, margin=margin)
    if out is not None:
        write_comparison(compared, out)
    if as_json:
        print_json(compared)
        return
    for table in comparison_tables(compared):
        print_table(*table)
    for note in compared["notes"]:
        say(note)
    where = f"The page is in {out / 'comparison.html'}. " if out is not None else ""
    say(f"{where}Research software, not a medical device.")


def plan(
    width: Annotated[float | None, typer.Option(help="Plan for a 95 % interval no wider than this.")] = None,
    difference: Annotated[
        float | None, typer.Option(help="Plan for this true difference: second system minus first; with --margin, 0.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Plan to show that the second system is not worse by this much.")
    ] = None,
    measure: Annotated[str, typer.Option(help="auroc, sensitivity or specificity.")] = "auroc",
    value: Annotated[float, typer.Option(help="What the first system reaches.")] = 0.8,
    prevalence: Annotated[float, typer.Option(help="Proportion of patients with the finding.")] = 0.05,
    films: Annotated[float, typer.Option(help="Films per patient.")] = 1.0,
    alike: Annotated[float, typer.Option(help="How alike a patient's films are: 0 as others' to 1 the same.")] = 0.5,
    correlation: Annotated[float, typer.Option(help="Of both systems' scores on films of one kind.")] = 0.5,
    power: Annotated[float, typer.Option(help="Chance to show it.")] = 0.8,
    level: Annotated[float, typer.Option(help="Level of the two-sided test; half of it for a margin.")] = 0.05,
    tests: Annotated[int, typer.Option(min=1, help="Findings that are tested together.")] = 1,
    patients: Annotated[int | None, typer.Option(min=2, help="Say what power so many patients give.")] = None,
    pilot: Annotated[
        list[Path] | None,
        typer.Option(metavar="REPORT", help="Reports on the same films, one or two, whose spread is taken."),
    ] = None,
    finding: Annotated[str, typer.Option(help="Of the pilot's findings, the one that is planned for.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for plan.json and plan.html.")] = None,
    as_json: Json = False,
) -> None:
    """Plan a study: patients needed, and power, for an interval's width, a difference, or non-inferiority.

    Example: hilum plan --difference 0.03 --value 0.80 --prevalence 0.05 --films 2
    """
    from hilum.evaluation.plan import plan_study, plan_tables, write_plan
    from hilum.metrics.planning import Aim, Design

    check_choice("measure", measure, ("auroc", "sensitivity", "specificity"))
    if (width is not None) + (margin is not None or difference is not None) != 1:
        raise HilumError("plan must have one aim, got none or two. Give --width, --difference, or --margin")
    for name, number in (("width", width), ("margin", margin), ("power", power), ("level", level)):
        if number is not None and not 0 < number < 1:
            raise HilumError(f"{name} must be between 0 and 1, got {number}")
    if margin is None and difference == 0:
        raise HilumError("difference must not be 0, got 0. A difference of 0 cannot be shown: give --margin")
    if margin is not None and (difference or 0) <= -margin:
        raise HilumError(f"difference must be above minus the margin, got {difference} and {margin}")
    try:
        design = Design(measure, value, prevalence, films, alike, correlation)  # type: ignore[arg-type]
    except ValueError as error:
        raise HilumError(str(error)) from None
    if width is not None:
        aim = Aim("width", width, level=level, tests=tests)
    elif margin is not None:
        aim = Aim("margin", margin, difference or 0.0, level, tests)
    else:
        aim = Aim("difference", 0.0, difference or 0.0, level, tests)
    content = plan_study(design, aim, wanted=power, patients=patients, pilot=pilot or [], finding=finding)
    if out is not None:
        write_plan(content, out)
    if as_json:
        print_json(content)
        return
    for sentence in content["sentences"]:
        typer.echo(sentence)
    for table in plan_tables(content):
        print_table(*table)
    say("Research software, not a medical device.")


def readers(
    readings: Annotated[
        Path, typer.Argument(metavar="READINGS", help="CSV or Parquet: reader, modality, film, score, label.")
    ],
    films: Annotated[
        Path | None, typer.Option(help="A manifest for labels and patients, where READINGS has no column label.")
    ] = None,
    finding: Annotated[str, typer.Option(help="Of the manifest's findings, the one that was read for.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for readers.json and readers.html.")] = None,
    as_json: Json = False,
) -> None:
    """Compare modalities in a reader study (MRMC), such as readers with and without a model's help.

    Example: hilum readers readings.csv --out readers
    """
    from hilum.data.films import read_films
    from hilum.evaluation.readers import read_readings, reader_study, study_sentences, study_tables, write_study

    table = read_readings(readings, None if films is None else read_films(films), finding)
    study = reader_study(table, finding=finding)
    if out is not None:
        write_study(study, out)
    if as_json:
        print_json(study)
        return
    for sentence in study_sentences(study):
        typer.echo(sentence)
    for one in study_tables(study):
        print_table(*one)
    say("Research software, not a medical device.")


def matrix(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of bundles: one for each training set.")
    ],
    films: Annotated[list[Path], typer.Option("--films", help="A manifest; give it again for each set of test films.")],
    out: Annotated[Path, typer.Option(help="Folder for matrix.json and matrix.html.")] = Path("matrix"),
    split: Annotated[str, typer.Option(help="Which films to evaluate.")] = "test",
    views: ViewsChoice = "PA,AP,unknown",
    as_json: Json = False,
) -> None:
    """Evaluate models of several training sets on several sets of films: what each loses away from home.

    Example: hilum matrix runs/nih runs/brax --films nih.parquet --films brax.parquet --out matrix
    """
    from hilum.evaluation.matrix import matrix as evaluate_all
    from hilum.evaluation.matrix import matrix_table, sentences, write_matrix

    content = evaluate_all(runs, films, split=split, views=views.split(","))
    write_matrix(content, out)
    if as_json:
        print_json(content)
        return
    print_table(*matrix_table(content))
    for sentence in sentences(content):
        say(sentence)
    say(f"The page is in {out / 'matrix.html'}. Research software, not a medical device.")


def reproduce(
    films: FilmsFile,
    out: Annotated[Path, typer.Option(help="Folder for everything: new, or of the suite to go on with.")],
    budget: Annotated[
        float | None, typer.Option(min=1, help="Minutes for all trainings; sizes and epochs are scaled down to them.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each system, with seeds 0, 1, ...")] = 1,
    protocols: Annotated[
        list[str] | None,
        typer.Option(help="official, patient, image: split anew by each; as FILMS is split if not given."),
    ] = None,
    systems: Annotated[
        list[str] | None, typer.Option(help="Recipes, with commas or one by one; the paper's six if not given.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="What all start from instead of ImageNet's: none, a file.")
    ] = None,
    changes: Changes = None,
    packs: Annotated[Path | None, typer.Option(help="Folder for packed films; beside FILMS if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Train and evaluate the paper's systems; write its tables and figures beside the published values.

    The same command goes on where it was stopped; OUT/reproduce.html can be read at any time.

    Example: hilum reproduce --films films.parquet --out reproduction --budget 180 --weights none
    """
    from hilum.data.films import read_films
    from hilum.data.pack import PACKS
    from hilum.reproduction.plan import SYSTEMS
    from hilum.reproduction.run import reproduce as reproduce_paper
    from hilum.reproduction.tables import summary_rows

    content = reproduce_paper(
        read_films(films),
        out,
        packs=packs or films.parent / PACKS,
        protocols=_names(protocols),
        systems=_names(systems) or SYSTEMS,
        seeds=seeds,
        budget=budget,
        changes=[*(changes or []), *([f"weights={weights}"] if weights is not None else [])],
    )
    if as_json:
        print_json(content)
        return
    print_table("Mean AUROC beside the published values", *summary_rows(content))
    say(f"The tables are in {out / 'reproduce.html'}. Research software, not a medical device.")


def _names(values: list[str] | None) -> list[str]:
    """The names in options that may be given several times, or hold several with commas."""
    return [name.strip() for value in values or [] for name in value.split(",") if name.strip()]
