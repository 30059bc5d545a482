"""The command line. Each command reads its files, calls one function, and prints; heavy imports wait inside."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum import __version__
from hilum.console import print_json, print_report, print_table, run, say
from hilum.errors import HilumError

app = typer.Typer(
    help="Train, judge, explain and run chest X-ray classifiers. Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FilmsFile = Annotated[Path, typer.Option("--films", help="The manifest that `hilum index` wrote.")]
FilmsArgument = Annotated[Path, typer.Argument(metavar="FILMS", help="The manifest that `hilum index` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output, and nothing else there.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a key of the recipe: optimizer.lr=3e-4")]


def main() -> None:
    """Run the command line."""
    run(app)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Train, judge, explain and run chest X-ray classifiers. Research software, not a medical device."""
    if show:
        typer.echo(f"hilum {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="A new folder for all that the demo makes.")] = Path("demo"),
    data: Annotated[Path | None, typer.Option(help="A real ChestX-ray14 folder instead of phantom films.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Phantom films -> train -> judge -> explain, in minutes; then where to look and what to type next.

    Example: hilum demo --out demo
    """
    from hilum.demo import run_demo

    result = run_demo(out, data=data, seed=seed)
    if as_json:
        print_json(result.to_dict())
    else:
        typer.echo(result.to_text())


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    films: Annotated[int, typer.Option(min=1, help="Number of films.")] = 600,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Height and width in pixels.")] = 320,
    seed: Seed = 0,
    shuffle_labels: Annotated[bool, typer.Option(help="Labels of other patients: nothing can be learned.")] = False,
) -> None:
    """Write simulated films with ground truth, in ChestX-ray14's layout.

    Example: hilum phantom phantom --films 600
    """
    from hilum.data.phantom import write_phantom

    try:
        write_phantom(folder, films=films, size=size, seed=seed, shuffle_labels=shuffle_labels)
    except ValueError as error:
        raise HilumError(str(error)) from None
    say(f"{films} phantom films are in {folder}. Next: hilum index nih {folder} --out films.parquet")


@app.command()
def index(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Whose layout the folder has: nih (ChestX-ray14).")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with images and label files.")],
    out: Annotated[Path, typer.Option(help="The manifest to write.")] = Path("films.parquet"),
    labels: Annotated[Path | None, typer.Option(help="The label file, where DIR has none or several.")] = None,
    as_json: Json = False,
) -> None:
    """List a folder's films, labels and patients in one manifest; no image is opened.

    Example: hilum index nih /data/ChestX-ray14 --out films.parquet
    """
    from hilum.data.films import write_films
    from hilum.data.nih import index_nih

    match source:
        case "nih":
            films = index_nih(folder, labels=labels)
        case _:
            raise HilumError(f"source must be nih, got {source!r}. Other sources are not read yet")
    write_films(films, out)
    problems = {name: len(names) for name, names in films.notes["problems"].items()}
    facts = {"films": len(films), "patients": int(films.table["patient"].nunique()), **problems, "out": str(out)}
    if as_json:
        print_json(facts)
        return
    print_table(
        "Indexed", ["", "count"], [[name.replace("_", " "), f"{n:,}"] for name, n in facts.items() if name != "out"]
    )
    say(f"Names of what is missing or wrong: hilum audit {out}. Next: hilum split {out} --protocol patient")


@app.command()
def audit(
    films: FilmsArgument,
    read_files: Annotated[
        bool, typer.Option(help="Decode every image; without it, only what the manifest tells.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Count and name what is missing, unreadable, duplicate or unlisted; show splits, leaks and prevalence.

    Example: hilum audit films.parquet
    """
    from hilum.data.audit import audit as audit_films
    from hilum.data.films import read_films

    found = audit_films(read_films(films), read_files=read_files)
    if as_json:
        print_json(found.to_dict())
    else:
        typer.echo(found.to_text())


@app.command()
def split(
    films: FilmsArgument,
    protocol: Annotated[str, typer.Option(help="official (NIH's lists), patient, or image (the paper's; leaks).")],
    seed: Seed = 0,
    fractions: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Parts for train, val and test; patient: 0.7 0.1 0.2, image: 0.7 0 0.3 if not given."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write here instead of into FILMS.")] = None,
    as_json: Json = False,
) -> None:
    """Deal films to train, val and test, and keep the split in the manifest.

    Example: hilum split films.parquet --protocol patient --seed 0
    """
    from hilum.data.films import read_films, write_films
    from hilum.data.splits import shared_patients, split_films, split_summary

    divided = split_films(read_films(films), protocol, seed=seed, fractions=fractions)
    write_films(divided, out or films)
    summary, shared = split_summary(divided), shared_patients(divided)
    if as_json:
        print_json(
            {
                "protocol": protocol,
                "seed": seed,
                "splits": json.loads(summary.to_json(orient="records")),
                "shared_patients": {"/".join(pair): count for pair, count in shared.items()},
            }
        )
        return
    rows = [[row["split"], f"{row['films']:,}", f"{row['patients']:,}"] for row in summary.to_dict("records")]
    print_table(f"Split by {protocol}, seed {seed}", ["split", "films", "patients"], rows)
    leaks = sum(shared.values())
    say(
        "No patient is in two splits."
        if not leaks
        else f"{shared[('train', 'test')]:,} patients are in train and test."
    )


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name (hilum info) or a TOML file.")
    ],
    films: FilmsFile,
    out: Annotated[Path, typer.Option(help="Folder of the run; becomes the bundle.")],
    changes: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in OUT stopped.")] = False,
    packs: Annotated[Path | None, typer.Option(help="Folder for packed films; beside FILMS if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Train a model as a recipe says. Ctrl-C and SIGTERM save first.

    Example: hilum train nih-small --films films.parquet --out runs/nih-small
    """
    from hilum.data.films import read_films
    from hilum.recipe import load_recipe
    from hilum.train import PACKS
    from hilum.train import train as train_model

    chosen = load_recipe(recipe, changes or [])
    bundle = train_model(chosen, read_films(films), out, packs=packs or films.parent / PACKS, resume=resume)
    if as_json:
        print_json({"out": str(out), **bundle.training})
    say(f"The bundle is in {out}. Next: hilum evaluate {out} --films {films} --out report")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a bundle.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Image files, folders, or quoted patterns.")],
    out: Annotated[
        Path | None, typer.Option(help="predictions.csv, .json or .parquet; a table is printed if absent.")
    ] = None,
    heatmaps: Annotated[Path | None, typer.Option(help="Folder for PNG overlays of where the model looked.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Heatmaps per film, from the finding with the highest score.")] = 3,
    as_json: Json = False,
) -> None:
    """Score films. A bad file is reported and the rest go on; the exit code is then 1.

    Example: hilum predict runs/nih-small films/ --out predictions.csv --heatmaps heatmaps
    """
    from hilum.bundle import load_bundle
    from hilum.predict import check_out, expand, predict_files, write_predictions

    if out is not None:
        check_out(out)
    table = predict_files(load_bundle(run), expand(inputs), heatmaps=heatmaps, top=top)
    if out is not None:
        write_predictions(table, out)
    if as_json:
        typer.echo(table.to_json(orient="records", double_precision=8))
    elif out is None:
        typer.echo(table.to_csv(index=False, float_format="%.4f"), nl=False)
    bad = int((table["error"] != "").sum()) if "error" in table else 0
    where = f" They are in {out}." if out is not None else ""
    say(f"{len(table) - bad:,} films scored, {bad:,} bad.{where} Research software, not a medical device.")
    if bad:
        raise typer.Exit(1)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="RUN|PREDICTIONS", help="A bundle, or CSV or Parquet of scores.")],
    films: FilmsFile,
    out: Annotated[Path, typer.Option(help="Folder for report.json, report.html and roc.png.")] = Path("report"),
    split: Annotated[str, typer.Option(help="Which films to judge.")] = "test",
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws of patients, for the intervals.")] = 1000,
    seed: Seed = 0,
    allow_missing: Annotated[bool, typer.Option(help="Judge what has scores; the rest is counted.")] = False,
    allow_unknown: Annotated[bool, typer.Option(help="Leave out scores of films that the manifest lacks.")] = False,
    as_json: Json = False,
) -> None:
    """Judge a bundle, or anyone's predictions, on the test split; write report.json and report.html.

    Example: hilum evaluate runs/nih-small --films films.parquet --out report
    """
    from hilum.data.films import read_films
    from hilum.report.evaluation import evaluate_to_folder

    report = evaluate_to_folder(
        model,
        read_films(films),
        out,
        split=split,
        draws=draws,
        seed=seed,
        allow_missing=allow_missing,
        allow_unknown=allow_unknown,
    )
    if as_json:
        print_json(report)
        return
    print_report(report)
    say(f"The report is in {out / 'report.html'}. Research software, not a medical device.")


@app.command()
def info(
    what: Annotated[
        str | None, typer.Argument(metavar="[RECIPE|RUN]", help="A recipe, a bundle; all recipes if absent.")
    ] = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Show a recipe or a bundle: its network, parameters, preprocessing and training.

    Example: hilum info am-densenet --json
    """
    from hilum.info import describe, shipped

    facts = shipped() if what is None else describe(what, changes or [])
    if as_json:
        print_json(facts)
        return
    rows = [
        [name, json.dumps(value) if isinstance(value, dict | list) else str(value)] for name, value in facts.items()
    ]
    print_table(what or "Recipes", ["", ""], rows)
