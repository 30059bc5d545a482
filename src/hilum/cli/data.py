"""Commands that make, list, check and split films."""

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from hilum.cli.console import Changes, FilmsArgument, Json, Seed, check_choice, print_json, print_table, say
from hilum.data.sources import AUTO, SOURCES, read_source
from hilum.errors import HilumError

_SOURCES = ", ".join(f"{name} ({source.about})" for name, source in SOURCES.items())


def phantom(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    films: Annotated[int, typer.Option(min=1, help="Number of films.")] = 600,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Height and width in pixels.")] = 320,
    seed: Seed = 0,
    shuffle_labels: Annotated[
        bool, typer.Option("--shuffle-labels", help="Labels of other patients: nothing can be learned.")
    ] = False,
    layout: Annotated[
        str,
        typer.Option(
            help=f"Whose folders and tables to write: {', '.join(name for name in SOURCES if name != 'csv')}."
        ),
    ] = "nih",
    as_json: Json = False,
) -> None:
    """Write simulated films with their truth, in the layout of ChestX-ray14 or of another data set.

    Example: hilum phantom phantom --films 600
    """
    from hilum.phantom.dataset import write_phantom

    try:
        write_phantom(folder, films=films, size=size, seed=seed, shuffle_labels=shuffle_labels, layout=layout)
    except ValueError as error:
        raise HilumError(str(error)) from None
    if as_json:
        print_json({"films": films, "size": size, "seed": seed, "out": str(folder)})
        return
    say(f"{films} phantom films are in {folder}. Next: hilum index {layout} {folder} --out films.parquet")


def index(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help=f"Whose layout the folder has: {_SOURCES}; auto finds out.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with images and label files.")],
    out: Annotated[Path, typer.Option(help="The manifest to write.")] = Path("films.parquet"),
    labels: Annotated[Path | None, typer.Option(help="The label file, where DIR has none or several.")] = None,
    mapping: Annotated[
        Path | None, typer.Option("--map", help="csv: what your table's columns mean; DIR/map.toml if not given.")
    ] = None,
    draft: Annotated[
        bool, typer.Option("--draft", help="csv: guess the map from table and images, and write it for you to mend.")
    ] = False,
    vocabulary: Annotated[
        str,
        typer.Option(help="Findings: own (the source's), nih (14), chexpert (13) or union (all 27 that Hilum knows)."),
    ] = "own",
    blank: Annotated[
        str | None, typer.Option(help="What a finding means that a row does not mention: absent (usual) or unknown.")
    ] = None,
    labeller: Annotated[str, typer.Option(help="mimic: whose labels, chexpert or negbio.")] = "chexpert",
    votes: Annotated[int, typer.Option(min=1, max=3, help="vindr: readers of three that must see a finding.")] = 2,
    masks: Annotated[
        list[Path] | None,
        typer.Option(help="Outlines to evaluate heatmaps by: CheXlocalize's JSON or a table of CheXmask. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List a folder's films, labels and patients in one manifest. No image is opened.

    Example: hilum index nih /data/ChestX-ray14 --out films.parquet
    """
    from hilum.data.films import PATIENTS_ARE_FILMS, write_films
    from hilum.data.sources.reading import Options

    if source not in (AUTO, *SOURCES):
        raise HilumError(f"source must be one of {', '.join([AUTO, *SOURCES])}, got {source!r}")
    if blank not in (None, "absent", "unknown"):
        raise HilumError(f"--blank must be absent or unknown, got {blank!r}")
    if source != "csv" and (draft or mapping is not None):
        raise HilumError(f"--map and --draft must be left out for {source}. They are for csv, a table of your own")
    if draft:
        from hilum.data.sources.draft import write_draft

        written = write_draft(folder, mapping)
        if as_json:
            print_json({"map": str(written)})
        say(f"A draft is in {written}. Mend its guesses, then: hilum index csv {folder} --map {written} --out {out}")
        return
    options = Options(labels, mapping, cast(Any, blank), labeller, votes, cast(Any, vocabulary))
    found, films = read_source(source, folder, options)
    if masks:
        from hilum.data.sources.masks import add_masks

        films = add_masks(films, masks)
    if source == AUTO:
        say(f"{folder} has the layout of {found} ({SOURCES[found].about}).")
    if out.is_file():
        say(f"{out} was there and is written anew; a split that it held is gone.")
    write_films(films, out)
    problems = {name: len(names) for name, names in films.notes["problems"].items()}
    facts = {"films": len(films), "patients": int(films.table["patient"].nunique()), **problems, "out": str(out)}
    if as_json:
        print_json(facts)
        return
    print_table(
        "Indexed", ["", "count"], [[name.replace("_", " "), f"{n:,}"] for name, n in facts.items() if name != "out"]
    )
    if films.notes.get("patients_are_films"):
        say(f"Note: {PATIENTS_ARE_FILMS}")
    say("missing: films that the label file lists and DIR lacks; unlisted: the other way round. Both are left out.")
    if problems.get("repeated"):
        say("repeated: rows that are equal to an earlier one of the same film, which counts once.")
    say(f"Names of what is missing or wrong: hilum audit {out}. Next: hilum split {out} --protocol patient")


def audit(
    films: FilmsArgument,
    read_files: Annotated[
        bool, typer.Option(help="Decode every image; without it, only what the manifest tells.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Name what is missing, unreadable, duplicate or unlisted. Show splits, leaks and prevalence.

    Example: hilum audit films.parquet
    """
    from hilum.data.audit import audit as audit_films
    from hilum.data.films import read_films

    found = audit_films(read_films(films), read_files=read_files)
    if as_json:
        print_json(found.to_dict())
    else:
        typer.echo(found.to_text())


def merge(
    manifests: Annotated[list[Path], typer.Argument(metavar="FILMS...", help="Two or more manifests, a source each.")],
    out: Annotated[Path, typer.Option(help="The manifest to write.")],
    vocabulary: Annotated[
        str, typer.Option(help="Findings to keep: union, common (those that all have), nih or chexpert.")
    ] = "union",
    accept_overlap: Annotated[
        bool, typer.Option("--accept-overlap", help="Merge sources that show the same patients under other names.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Merge manifests of several sources into one. Films become source/film, patients group:patient.

    Example: hilum merge nih.parquet chexpert.parquet --out all.parquet
    """
    from hilum.data.films import read_films, write_films
    from hilum.data.merge import merge as merge_films

    films = merge_films([read_films(path) for path in manifests], chosen=vocabulary, accept_overlap=accept_overlap)
    write_films(films, out)
    sources = {str(name): int(count) for name, count in films.table["source"].value_counts().items()}
    split_by = films.notes["protocol"]
    if as_json:
        facts = {"films": len(films), "sources": sources, "findings": list(films.findings), "protocol": split_by}
        print_json({**facts, "out": str(out)})
        return
    print_table("Merged", ["source", "films"], [[name, f"{count:,}"] for name, count in sources.items()])
    say(f"{len(films.findings)} findings: {', '.join(films.findings)}")
    if split_by is None:
        say(f"The splits do not fit together. Next: hilum split {out} --protocol patient")
    else:
        say(f"The splits are kept: by {split_by}. Known labels by source: hilum audit {out}")


def split(
    films: FilmsArgument,
    protocol: Annotated[str, typer.Option(help="official (NIH's lists), patient, or image (the paper's; leaks).")],
    seed: Seed = 0,
    fractions: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Proportions of train, val and test; patient: 0.7 0.1 0.2, image: 0.7 0 0.3 if not given."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write here instead of into FILMS.")] = None,
    as_json: Json = False,
) -> None:
    """Split a manifest into train, validation and test sets. The split is kept in the manifest.

    Example: hilum split films.parquet --protocol patient --seed 0
    """
    from hilum.data.films import PATIENTS_ARE_FILMS, read_films, write_films
    from hilum.data.splits import shared_patients, split_summary

    divided = read_films(films).split(protocol, seed=seed, fractions=fractions)
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
    if divided.notes.get("patients_are_films"):
        say(f"Note: {PATIENTS_ARE_FILMS}")
    elif sum(shared.values()):
        say(f"{shared[('train', 'test')]:,} patients are in train and test.")
    else:
        say("No patient is in two splits.")


def pack(
    films: FilmsArgument,
    recipe: Annotated[str, typer.Option(help="Whose size and interpolation: a shipped recipe's name or a TOML file.")],
    splits: Annotated[
        list[str] | None, typer.Option("--split", help="train, val or test; repeatable. train and val if not given.")
    ] = None,
    changes: Changes = None,
    packs: Annotated[Path | None, typer.Option(help="Folder for packed films; beside FILMS if not given.")] = None,
    store: Annotated[
        str | None,
        typer.Option(help="Move the pack to s3://, gs:// or az://... Trainings read it there. Extra storage."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare all that is packed with its SHA-256.")] = False,
    as_json: Json = False,
) -> None:
    """Decode films once for all trainings of this preprocessing. A build that is killed goes on where it was.

    `hilum train` packs what it needs by itself; this is for a machine with many cores and no GPU.

    Example: hilum pack films.parquet --recipe nih-small
    """
    import time
    from dataclasses import replace

    from hilum.data.films import read_films
    from hilum.data.pack import PACKS, move_to_store, open_pack, stored, verify_pack
    from hilum.recipe import load_recipe

    chosen, manifest = splits or ["train", "val"], read_films(films)
    for name in chosen:
        check_choice("split", name, ("train", "val", "test"))
    preprocessing, folder = load_recipe(recipe, changes or []).preprocessing, packs or films.parent / PACKS
    table = manifest.table[manifest.table["split"].isin(chosen)].reset_index(drop=True)
    if table.empty:
        raise HilumError(f"films must have some in {', '.join(chosen)}, got none. Split them: hilum split {films}")
    if store is not None:
        move_to_store(preprocessing, folder, store)
    before, start = stored(preprocessing, folder).films, time.perf_counter()
    open_pack(replace(manifest, table=table), preprocessing, folder)
    seconds, told = time.perf_counter() - start, stored(preprocessing, folder)
    facts = {
        "folder": str(told.folder),
        "store": told.store,
        "films": told.films,
        "films_of_8_bits": told.eight_bit,
        "shards": told.shards,
        "bytes": told.bytes,
        "packed_now": told.films - before,
        "packed_films_per_second": round((told.films - before) / seconds, 1),
        "verified": verify_pack(preprocessing, folder) if verify else None,
    }
    if as_json:
        print_json(facts)
        return
    cells = {name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in facts.items()}
    rows = [[name.replace("_", " "), cell] for name, cell in cells.items() if cell != "None"]
    print_table("Pack", ["", ""], rows)
