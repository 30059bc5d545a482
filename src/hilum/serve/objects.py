"""A sent film's result as DICOM objects: a structured report and a picture, in an archive."""

import io
import zipfile
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hilum.data.spoil import OK
from hilum.dicom.writer import check_installed
from hilum.errors import ImageError
from hilum.predict.scoring import Scored
from hilum.serve.uploads import Upload


def archive(run: Path, upload: Upload, scored: Scored, point: str | None) -> bytes:
    """The objects in a zip file, as result.sr.dcm and result.sc.dcm.

    Raises:
        ImageError: if the film is no DICOM film with its identifiers, or does not fit the model.
        MissingExtraError: if the extra [dicom] is not installed.
    """
    check_installed()
    from hilum.dicom.model import result_model
    from hilum.dicom.results import write_results

    if scored.fit not in ("", OK):
        raise ImageError(f"film must be one that the model knows, got one that is {scored.fit}. It has no result.")
    packed = io.BytesIO()
    with TemporaryDirectory() as name, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as objects:
        folder = Path(name)
        film = folder / "film"
        film.write_bytes(upload.content())
        try:
            made = write_results(film, scored, result_model(run, point), folder, film="result", now=datetime.now())
        except ImageError as error:  # it names the temporary file
            raise ImageError(str(error).replace(repr(str(film)), repr(upload.name))) from None
        for path in made:
            objects.write(path, path.name)
    return packed.getvalue()
