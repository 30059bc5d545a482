"""Commands that train, run and describe models."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from hilum.cli.console import (
    Bits,
    Changes,
    DeviceChoice,
    EngineChoice,
    FilmsFile,
    Force,
    Json,
    PrecisionChoice,
    Seed,
    check_choice,
    numbers,
    print_json,
    print_table,
    say,
)
from hilum.errors import HilumError

if TYPE_CHECKING:
    from hilum.model.bundle import Bundle
from hilum.metrics.operating_points import POINT_NAMES


def demo(
    out: Annotated[Path, typer.Option(help="A new folder for all that the demo makes.")] = Path("demo"),
    data: Annotated[Path | None, typer.Option(help="A real ChestX-ray14 folder instead of phantom films.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Simulate films, train a model, evaluate and explain it, in minutes. Then say where to look and what to type.

    Example: hilum demo --out demo
    """
    from hilum.demo import run_demo

    result = run_demo(out, data=data, seed=seed)
    if as_json:
        print_json(result.to_dict())
    else:
        typer.echo(result.to_text())


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A shipped recipe's name (hilum info), a TOML file, a bundle to go on from."
        ),
    ],
    films: FilmsFile,
    out: Annotated[Path, typer.Option(help="Folder of the run; becomes the bundle.")],
    freeze: Annotated[
        str | None,
        typer.Option(metavar="EPOCHS", help="So many epochs first train the classifier alone; all: a probe."),
    ] = None,
    changes: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in OUT stopped.")] = False,
    packs: Annotated[Path | None, typer.Option(help="Folder for packed films; beside FILMS if not given.")] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine, a GPU for each; all GPUs if not given.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Machines; for more than one, start with torchrun or srun.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=3, help="Train once for each of so many folds of the patients: OUT/fold-1, ...")
    ] = None,
    findings: Annotated[
        str | None, typer.Option(help="Train these alone, with commas between; known: all with a known label.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Of the recipe auto: the time it may take, such as 90s, 20m (if not given), 2h.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Let torch.compile speed up the network; minutes before the first step.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model as a recipe says, in one process or several. Ctrl-C, SIGTERM and SIGUSR1 save first.

    The recipe's batch is that of all processes together; each takes its part.

    Example: hilum train nih-small --films films.parquet --out runs/nih-small --devices 2
    """
    from hilum.data.films import read_films
    from hilum.data.pack import PACKS
    from hilum.recipe import load_recipe
    from hilum.training.processes import check_processes, devices_here, find_processes, launch
    from hilum.training.train import train as train_model

    chosen = load_recipe(recipe, changes or [])
    if budget is not None and recipe != "auto":
        raise HilumError(f"budget must go with the recipe auto, got it with {recipe}. Use --set training.epochs=...")
    manifest = read_films(films)
    if findings is not None:
        manifest = manifest.only(manifest.known_findings() if findings == "known" else findings.split(","))
    if recipe == "auto":
        if max(devices or 1, nodes or 1, find_processes().count) > 1 or folds is not None:
            raise HilumError(
                "recipe auto must be trained once, in one process. Leave out --devices, --nodes, --folds; the bundle "
                "holds the recipe that was chosen"
            )
        chosen, manifest = _auto(manifest, out, budget, changes or [], resume=resume)
        devices = 1
    if freeze is not None:
        chosen = load_recipe(
            chosen, [f"training.freeze_epochs={chosen.training.epochs if freeze == 'all' else freeze}"]
        )
    here = find_processes()
    if folds is not None:
        from hilum.training.folds import MANIFEST, train_folds

        if compiled:
            raise HilumError(
                "folds must be trained without --compile, which would take its minutes for each. Leave it out"
            )
        if here.count > 1 or (devices or 1) > 1:
            raise HilumError(
                "folds must be trained in one process, got several. Leave --devices out, or train each fold"
            )
        where = packs or films.parent / PACKS
        bundles = train_folds(chosen, manifest, out, number=folds, packs=where, resume=resume)
        if as_json:
            print_json({"out": str(out), "folds": [bundle.training for bundle in bundles]})
        say(f"Next: hilum evaluate {out}/fold-* --films {out / MANIFEST} --out report")
        return
    if here.count > 1:
        check_processes(here, devices=devices, nodes=nodes)
    elif nodes is not None and nodes > 1:
        raise HilumError(f"nodes must be 1 without torchrun or srun, which start the others, got {nodes}. See docs")
    elif (wanted := devices or devices_here()) > 1:
        code = launch(sys.argv[1:], wanted)
        if code:
            raise typer.Exit(code)
        return
    where = packs or films.parent / PACKS
    bundle = train_model(chosen, manifest, out, packs=where, resume=resume, compiled=compiled)
    if not here.first:
        return
    if as_json:
        print_json({"out": str(out), **bundle.training})
    say(f"The bundle is in {out}. Next: hilum evaluate {out} --films {films} --out report")


def _auto(manifest: Any, out: Path, budget: str | None, changes: list[str], *, resume: bool) -> tuple[Any, Any]:
    """The recipe auto for these films, said with its reasons, and the films with validation films."""
    from hilum.training.auto import DEFAULT_BUDGET_S, choose, chosen_before, with_validation
    from hilum.training.tune import budget_seconds

    if resume:
        recipe = chosen_before(out)
        return recipe, with_validation(manifest, seed=recipe.seed)[0]
    seconds = DEFAULT_BUDGET_S if budget is None else budget_seconds(budget)
    chosen = choose(manifest, budget_s=seconds, changes=changes)
    for reason in chosen.reasons:
        say(reason)
    return chosen.recipe, chosen.films


def tune(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Where the search starts: as of hilum train.")],
    films: FilmsFile,
    space: Annotated[
        Path, typer.Option(help='TOML: "optimizer.lr" = { low = 1e-5, high = 1e-3, log = true }, or a list.')
    ],
    out: Annotated[Path, typer.Option(help="Folder of the search; holds best.toml in the end.")],
    budget: Annotated[str, typer.Option(help="No trial begins after this: 90s, 20m, 2h.")] = "1h",
    folds: Annotated[int, typer.Option(min=2, help="Patient-wise folds of the train and validation films.")] = 3,
    trials: Annotated[int | None, typer.Option(min=1, help="At most so many in all.")] = None,
    changes: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in OUT.")] = False,
    packs: Annotated[Path | None, typer.Option(help="Folder for packed films; beside FILMS if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Search a recipe's values by Optuna on patient-wise folds, within a time. Test films are not touched. Extra tune.

    Example: hilum tune imported --films films.parquet --space space.toml --budget 2h --out search
    """
    from dataclasses import asdict

    from hilum.data.films import read_films
    from hilum.data.pack import PACKS
    from hilum.recipe import load_recipe
    from hilum.training.tune import BEST, budget_seconds, read_space
    from hilum.training.tune import tune as search

    chosen = load_recipe(recipe, changes or [])
    found = search(
        chosen,
        read_films(films),
        read_space(space, chosen),
        out,
        budget_s=budget_seconds(budget),
        folds=folds,
        trials=trials,
        packs=packs or films.parent / PACKS,
        resume=resume,
    )
    if not found.changes:
        raise HilumError(f"budget must leave time for a trial, got {budget}. Go on with --resume and a longer one")
    if as_json:
        print_json({"out": str(out), **asdict(found)})
    else:
        rows = [[key, str(value)] for key, value in found.changes.items()]
        print_table(f"Best of {found.trials} trials: mean AUROC {found.value:.4f}", ["key", "value"], rows)
    say("The best of many trials flatters itself on its folds: judge it on the test films, once.")
    say(f"Next: hilum train {out / BEST} --films {films} --out RUN")


def distil(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the bundle that teaches; an ensemble too.")],
    into: Annotated[str, typer.Option(metavar="RECIPE", help="What is trained: a recipe's name or file, or a bundle.")],
    films: FilmsFile,
    out: Annotated[Path, typer.Option(help="Folder of the run; becomes the bundle.")],
    weight: Annotated[
        float, typer.Option(min=0.01, max=1, help="Of the teacher where a label is known; 1: labels count nothing.")
    ] = 0.5,
    changes: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in OUT stopped.")] = False,
    packs: Annotated[Path | None, typer.Option(help="Folder for packed films; beside FILMS if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Train a small model on what a large one says of the same films. Films without labels are learned from too.

    Example: hilum distil runs/nih-lite --into efficientnet-lite0 --films films.parquet --out runs/small
    """
    from hilum.data.films import read_films
    from hilum.data.pack import PACKS
    from hilum.recipe import load_recipe
    from hilum.training.train import train as train_model

    chosen = load_recipe(into, changes or [])
    taught = chosen.labels.model_copy(update={"teacher": str(run), "teacher_weight": weight})
    chosen = load_recipe(chosen.model_copy(update={"labels": taught}))  # validated anew
    bundle = train_model(chosen, read_films(films), out, packs=packs or films.parent / PACKS, resume=resume)
    if as_json:
        print_json({"out": str(out), **bundle.training})
    say(f"The bundle is in {out}. Next: hilum bench --run {run} --run {out}")


def calibrate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a bundle; it is written anew.")],
    films: Annotated[Path | None, typer.Option(help="The manifest that `hilum index` wrote.")] = None,
    method: Annotated[
        str, typer.Option(help="platt (slope and intercept per finding) or temperature (one slope).")
    ] = "platt",
    packs: Annotated[Path | None, typer.Option(help="Folder for packed films; beside FILMS if not given.")] = None,
    device: DeviceChoice = "auto",
    source: Annotated[
        str | None, typer.Option(help="In place of --films: take the calibration of this source's films; with --out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the bundle of --source; must be new or empty.")] = None,
    as_json: Json = False,
) -> None:
    """Calibrate a bundle's scores on validation films. The manifest may be your own hospital's.

    A bundle that learned from several sources has calibration and thresholds of all films and of each source that has
    enough. `evaluate` takes a source's own on films of that source alone; --source writes a bundle with them, to use.

    Where 20 findings on them have true boxes, the level at which regions are outlined is chosen, too.
    `hilum train` has done this already where it had validation films. The test films are not touched.

    Example: hilum calibrate runs/nih-small --films films.parquet
    """
    from typing import get_args

    from hilum.data.films import read_films
    from hilum.data.pack import PACKS
    from hilum.model.bundle import load_bundle, region_fact, save_bundle
    from hilum.model.calibrate import calibrate as calibrate_bundle
    from hilum.model.calibrate import calibration_method
    from hilum.model.devices import Device, device_of
    from hilum.model.info import describe

    check_choice("device", device, get_args(Device))
    trained = load_bundle(run)
    if source is not None:
        _write_for_source(trained, run, source, films, out, as_json=as_json)
        return
    if films is None or out is not None:
        raise HilumError("--films must be given, and --out left out, to calibrate on films. --out belongs to --source.")
    unseen = read_films(films).of_views(trained.recipe.views).select("val")
    bundle = calibrate_bundle(
        trained,
        unseen,
        packs=packs or films.parent / PACKS,
        method=calibration_method(method),
        device=device_of(device),  # type: ignore[arg-type]
    )
    save_bundle(bundle, run)
    facts = describe(str(run), [])
    lines, how = facts["calibration"], facts["calibration_set"]["how"]
    if as_json:
        print_json(
            {
                "out": str(run),
                "calibration": lines,
                "calibration_set": facts["calibration_set"],
                "regions": facts["regions"],
            }
        )
        return
    rows = [[name, f"{slope:.3f}", f"{intercept:.3f}", how[name]] for name, (slope, intercept) in lines.items()]
    title = f"Calibrated on {len(unseen):,} validation films: slope x logit + intercept"
    print_table(title, ["finding", "slope", "intercept", "how"], rows)
    say(f"{region_fact(bundle).capitalize()}.")
    say(f"The bundle in {run} gives calibrated scores. Research software, not a medical device.")


def _write_for_source(
    bundle: "Bundle", run: Path, source: str, films: Path | None, out: Path | None, *, as_json: bool
) -> None:
    from hilum.model.bundle import calibration_fact, save_bundle

    if films is not None or out is None:
        raise HilumError("--out must be given, and --films left out, with --source: nothing is measured anew.")
    if source not in bundle.by_source:
        has = (
            ", ".join(bundle.by_source) or "none: it learned from one source, or from too few validation films of each"
        )
        raise HilumError(f"source must be one that {run} has a calibration of, got {source!r}. It has {has}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HilumError(f"out must be a new or empty folder, got {out}. Choose another.")
    own = bundle.for_source(source)
    save_bundle(own, out)
    if as_json:
        print_json({"out": str(out), "source": source, "calibration": own.calibration})
        return
    say(f"The bundle in {out} is {run} with the calibration and thresholds of {source}: {calibration_fact(own)}.")


def import_(
    source: Annotated[
        str, typer.Argument(help="torchxrayvision, chexnet, reproduce-chexnet, torchvision, timm, onnx.")
    ],
    model: Annotated[str, typer.Argument(help="The model's name there; for both of CheXNet and onnx the file.")],
    file: Annotated[Path | None, typer.Argument(help="Its weights; downloaded if absent and published.")] = None,
    out: Annotated[Path, typer.Option(help="A new folder for the bundle.")] = ...,  # type: ignore[assignment]
    findings: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="What the outputs mean, in order; for torchvision, timm, onnx."),
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Height and width of the input in pixels.")] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="How films are resized: area, bilinear, pillow-bicubic, scikit-image, ...")
    ] = None,
    crop: Annotated[str | None, typer.Option(help="square: the square in the middle is resized; none.")] = None,
    shorter: Annotated[
        int | None, typer.Option(min=0, help="Resize the shorter side to so many pixels, take the middle; 0: do not.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="M[,M,M]", help="Mean of pixels in [0, 1], of the channels or of each.")
    ] = None,
    deviation: Annotated[
        str | None, typer.Option(metavar="D[,D,D]", help="What pixels are divided by, once the mean is taken off.")
    ] = None,
    tensors_only: Annotated[
        bool, typer.Option("--tensors-only", help="Of a pickled module take the tensors; nothing in it is run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a bundle of a model that others trained, with its own scale of pixels, crop, resize and findings.

    It can be used at once, without any training; its scores are not calibrated. Files are never unpickled.

    Example: hilum import torchxrayvision densenet121-res224-all --out runs/xrv
    """
    from hilum.model.importing import Stated, import_model

    stated = Stated(
        findings=None if findings is None else [name.strip() for name in findings.split(",")],
        size=size,
        interpolation=interpolation,
        crop=crop,
        shorter=shorter,
        mean=numbers("mean", mean),
        deviation=numbers("deviation", deviation),
    )
    bundle = import_model(source, model, file, out, stated=stated, tensors_only=tensors_only)
    notes = [] if bundle.origin is None else list(bundle.origin.notes)
    if as_json:
        print_json({"out": str(out), "findings": list(bundle.findings), "notes": notes})
    else:
        rows = [["findings", ", ".join(bundle.findings)], ["input", bundle.preprocessing.words]]
        print_table(f"{bundle.recipe.name}: {bundle.parameters:,} parameters", ["", ""], rows)
    for note in notes:
        say(f"{note[0].upper()}{note[1:]}.")
    say(f"The bundle is in {out}. Next: hilum calibrate {out} --films films.parquet. Research, not a medical device.")


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a bundle.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Image files, folders, or quoted patterns.")],
    out: Annotated[
        Path | None, typer.Option(help="predictions.csv, .json or .parquet; a table is printed if absent.")
    ] = None,
    heatmaps: Annotated[Path | None, typer.Option(help="Folder for PNG overlays of where the model looked.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Heatmaps per film, from the finding with the highest score.")] = 3,
    engine: EngineChoice = "auto",
    precision: PrecisionChoice = None,
    device: DeviceChoice = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run for OUT stopped.")] = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Let a Ray cluster do it; local starts one here.")
    ] = None,
    calls: Annotated[
        str | None,
        typer.Option(metavar="POINT", help=f"Add calls at {POINT_NAMES}."),
    ] = None,
    dicom_out: Annotated[
        Path | None, typer.Option(help="Folder for FILM.sr.dcm and FILM.sc.dcm: report and picture, in its study.")
    ] = None,
    fhir: Annotated[
        Path | None, typer.Option(help="Folder for FILM.fhir.json: a preliminary DiagnosticReport with Observations.")
    ] = None,
    fhir_release: Annotated[str, typer.Option(help="R5 or R4B.")] = "R5",
    bits: Bits = None,
    force: Force = False,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over views of each film, by the bundle RUN/tta, made at need.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score films. A bad file is reported and the rest go on; the exit code is then 1.

    A film that does not fit the model has no scores: the column fit says why.

    Example: hilum predict runs/nih-small films/ --out predictions.csv --heatmaps heatmaps
    """
    from dataclasses import replace
    from typing import get_args

    from hilum.batch import Asked, predict_to_file, predicted
    from hilum.model.devices import Device
    from hilum.model.engines import EngineName, Precision
    from hilum.predict.files import write_csv, write_json

    check_choice("engine", engine, ("auto", *get_args(EngineName)))
    check_choice("precision", precision, (None, *get_args(Precision)))
    check_choice("fhir-release", fhir_release, ("R5", "R4B"))
    check_choice("device", device, get_args(Device))
    if tta:
        from hilum.model.ensemble import with_views

        run = with_views(run)
        say(f"Views of each film are averaged by {run}. Faster: hilum export {run} --to openvino.")
    by, in_precision, release, where = (cast(Any, choice) for choice in (engine, precision, fhir_release, device))
    asked = Asked(run, tuple(inputs), by, in_precision, heatmaps, top, ray, calls, dicom_out, fhir, bits, force)
    asked = replace(asked, release=release, device=where)
    if out is not None:
        counts = predict_to_file(asked, out, resume=resume)
        if as_json:
            print_json({"out": str(out), **counts.to_dict()})
    elif resume:
        raise HilumError("resume must go with out, the file whose unfinished run is to go on. Give --out")
    else:
        with predicted(asked) as (table, counts):
            if as_json:
                write_json(table, sys.stdout)
            else:
                write_csv(table, sys.stdout, digits=4)
    where = f" They are in {out}." if out is not None else ""
    noted = f" {counts.noted:,} of the others have a note in the column error." if counts.noted else ""
    unfit = f"{counts.unfit:,} not analysed (the column fit says why), " if counts.unfit else ""
    scored = f"{counts.films - counts.bad - counts.unfit:,} films scored, {unfit}{counts.bad:,} bad.{noted}"
    say(f"{scored}{where} Research software, not a medical device.")
    if counts.bad or counts.noted:
        raise typer.Exit(1)


def ensemble(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of bundles; one is enough with --tta.")],
    out: Annotated[Path, typer.Option(help="A new folder for the bundle of all.")],
    average: Annotated[str, typer.Option(help="What is averaged: logits or scores.")] = "logits",
    tta: Annotated[
        bool, typer.Option("--tta", help="Also over views of each film, moved a little and mirrored.")
    ] = False,
    films: Annotated[
        Path | None, typer.Option(help="A manifest, to calibrate on its validation films at once.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make one bundle of several: the mean of their logits or scores. Networks and sizes may differ.

    It is calibrated, evaluated, exported and served as any other; it costs what its members cost together.

    Example: hilum ensemble runs/a runs/b --out runs/both --films films.parquet
    """
    from typing import get_args

    from hilum.data.films import read_films
    from hilum.data.pack import PACKS
    from hilum.model.bundle import save_bundle
    from hilum.model.calibrate import calibrate as calibrate_bundle
    from hilum.model.ensemble import combine
    from hilum.nn.ensemble import Average

    check_choice("average", average, get_args(Average))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HilumError(f"out must be a new or empty folder, got {out}. Choose another")
    bundle = combine(runs, average=average, tta=tta)  # type: ignore[arg-type]
    if films is not None:
        bundle = calibrate_bundle(bundle, read_films(films).select("val"), packs=films.parent / PACKS)
    save_bundle(bundle, out)
    if as_json:
        print_json({"out": str(out), "findings": list(bundle.findings), "parameters": bundle.parameters})
    say(bundle.recipe.about)
    calibrated = "" if films else f" Next: hilum calibrate {out} --films films.parquet."
    say(f"The bundle is in {out}: {bundle.parameters:,} parameters.{calibrated} Research, not a medical device.")


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a bundle.")],
    to: Annotated[str, typer.Option(help="onnx or openvino.")],
    precision: Annotated[str, typer.Option(help="fp32; for openvino also bf16 or int8.")] = "fp32",
    films: Annotated[
        Path | None, typer.Option(help="For int8: a manifest; ranges are learned on its train, evaluated on its val.")
    ] = None,
    accept_loss: Annotated[bool, typer.Option("--accept-loss", help="Keep an int8 model that lost accuracy.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write; RUN/TO-PRECISION, where predict looks.")] = None,
    as_json: Json = False,
) -> None:
    """Write a bundle as a model that runs without torch, and faster. Pixels in, scores and heatmaps out.

    Example: hilum export runs/nih-small --to openvino --precision int8 --films films.parquet
    """
    from typing import get_args

    from hilum.data.films import read_films
    from hilum.model.engines import Precision
    from hilum.model.export import Target, export_bundle

    check_choice("to", to, get_args(Target))
    check_choice("precision", precision, get_args(Precision))
    manifest = None if films is None else read_films(films)
    made = export_bundle(
        run,
        to,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        out=out,
        films=manifest,
        accept_loss=accept_loss,
        say=say,
    )
    if as_json:
        print_json({"out": str(made.folder), "engine": made.engine, "precision": precision, "accuracy": made.accuracy})
    say(f"{made.engine} {made.precision} is in {made.folder}. Next: hilum predict {run} film.png")


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a bundle.")],
    to: Annotated[str, typer.Argument(metavar="ADDRESS", help="hf://owner/name, or with @branch.")],
    licence: Annotated[str, typer.Option(help="Of the weights, by the hub's names: apache-2.0, cc-by-nc-4.0, other.")],
    report: Annotated[
        Path | None, typer.Option(help="A report on this bundle, for the card; RUN/report if it is there.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only its owner may see it, if it is new.")] = False,
    as_json: Json = False,
) -> None:
    """Put a bundle and its exports onto a hub of models. Its card says task, licence and results. Needs the extra hub.

    Example: hilum push runs/nih-small hf://owner/nih-small --licence apache-2.0 --report report
    """
    from hilum.model.hub import push as push_bundle

    pinned = push_bundle(run, to, licence=licence, report=report, private=private)
    if as_json:
        print_json({"address": pinned})
    say(f'It is there, pinned as {pinned}. From Python: hilum.load("{pinned}")')


def pull(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="hf://owner/name@revision.")],
    out: Annotated[Path, typer.Option(help="A new folder for the bundle.")],
    as_json: Json = False,
) -> None:
    """Fetch a bundle from a hub of models into a folder, for every command that takes one. Needs the extra hub.

    Example: hilum pull hf://owner/nih-small@main --out runs/nih-small
    """
    import shutil

    from hilum.model.hub import fetch
    from hilum.model.metadata import read_description

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HilumError(f"out must be a new or empty folder, got {out}. Choose another")
    folder = fetch(address)
    read_description(folder)
    shutil.copytree(folder, out, dirs_exist_ok=True)
    if as_json:
        print_json({"out": str(out), "commit": folder.name})
    say(f"The bundle is in {out}. Next: hilum predict {out} film.png. Research software, not a medical device.")


def info(
    what: Annotated[
        str | None, typer.Argument(metavar="[RECIPE|RUN]", help="A recipe, a bundle; all recipes if absent.")
    ] = None,
    changes: Changes = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Pixels for which shapes, arithmetic and memory are counted.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer, its output and its parameters.")] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw a DenseNet's blocks into this PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Show a recipe's or bundle's network, parameters and training. Also its arithmetic, memory and preprocessing.

    Example: hilum info am-densenet --size 224 --layers --figure figure1.png
    """
    from hilum.files import write_whole
    from hilum.model.info import architecture_png, describe, layer_rows, recipe_of, sections, shipped
    from hilum.model.info import layers as layers_of

    if what is None:
        if layers or figure or size or changes:
            raise HilumError("a recipe or a run must be named with these options, got none. See: hilum info")
        facts: dict[str, Any] = dict(shipped())
        tables = [("Recipes", ["name", "what it is for"], [[name, about] for name, about in facts.items()])]
    else:
        facts = describe(what, changes or [], size=size)
        tables = [(title, ["", ""], rows) for title, rows in sections(facts)]
    if what is not None and layers:
        listed = layers_of(*recipe_of(what, changes or []), size=size)
        facts["layers"] = [layer._asdict() for layer in listed]
        tables.append(("Layers", ["layer", "kind", "output", "parameters"], layer_rows(listed)))
    if what is not None and figure is not None:
        write_whole(figure, architecture_png(*recipe_of(what, changes or []), size=size))
        say(f"The figure is in {figure}.")
    if as_json:
        print_json(facts)
        return
    for table in tables:
        print_table(*table)
