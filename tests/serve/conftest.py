import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import opened_page
from servers import HeldEngine, opened


@pytest.fixture(scope="session")
def calling_run(untrained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untrained bundle with thresholds: half of the findings are always present, the others never."""
    from hilum.metrics.operating_points import OPERATING_POINTS
    from hilum.metrics.thresholds import Threshold
    from hilum.model.bundle import binding_of, load_bundle, save_bundle
    from hilum.model.thresholds import OperatingPoints

    bundle = load_bundle(untrained_run)
    at = {name: Threshold(value := 0.0001 if k % 2 else 0.9999, value, value) for k, name in enumerate(bundle.findings)}
    points = OperatingPoints(binding_of(bundle), {name: dict(at) for name in OPERATING_POINTS})
    out = tmp_path_factory.mktemp("calling") / "run"
    save_bundle(replace(bundle, thresholds=points), out)
    return out


@pytest.fixture(scope="session")
def gated_run(calling_run: Path, phantom_films: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with a quality check that knows phantom films."""
    from hilum.data.images import Preprocessing
    from hilum.data.quality import fit_quality_check
    from hilum.model.bundle import load_bundle, save_bundle

    read = Preprocessing(64)
    quality_check = fit_quality_check(lambda row: read.read(phantom_films.path(row))[0], len(phantom_films), seed=0)
    out = tmp_path_factory.mktemp("gated") / "run"
    save_bundle(replace(load_bundle(calling_run), quality_check=quality_check), out)
    return out


@pytest.fixture(scope="session")
def open_run(calling_run: Path) -> Callable[..., Any]:
    """Open a server of one's own: for tests of what it refuses."""
    return lambda **options: opened(calling_run, **options)


@pytest.fixture(scope="session")
def url(calling_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that all tests share; it keeps what it is asked to keep."""
    with opened(calling_run, keep=tmp_path_factory.mktemp("kept") / "kept.db") as room:
        yield room.url


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[HeldEngine]]:
    """The engines of servers that this test opens; none runs a film before it is let go."""
    from hilum.model.engines import open_engine
    from hilum.serve import server as listen

    engines: list[HeldEngine] = []

    def opened_engine(*arguments: Any, **options: Any) -> Any:
        engines.append(HeldEngine(open_engine(*arguments, **options)))
        return engines[-1]

    monkeypatch.setattr(listen, "open_engine", opened_engine)
    yield engines
    for engine in engines:
        engine.go.set()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page, freshly opened; it fails the test if it asks anything of another host or complains."""
    page = opened_page(browser)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    yield page
    assert page.asked <= {url}, "a request left loopback"
    assert page.complaints == []
    page.close()
