"""What the command line prints: tables whose figures can be read at every width."""

import errno
import re

import pytest
import typer

from hilum.cli.console import print_table, run


@pytest.mark.parametrize("columns", [20, 80, 300])
@pytest.mark.parametrize("terminal", [True, False])
def test_no_word_of_a_table_is_cut(
    columns: int, terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    header = [f"column {number}" for number in range(20)]
    print_table(
        "Engines", header, [[f"am-densenet-{number}.25" for number in range(20)], ["a long remark", *["b"] * 19]]
    )
    print_table("Speed", ["network", *["forward films per second"] * 12], [["am-densenet", *["22.44"] * 12]])
    words = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).split()
    assert {f"am-densenet-{number}.25" for number in range(20)} <= set(words)
    assert [words.count(word) for word in ("forward", "films", "per", "second", "22.44")] == [12] * 5
    assert "…" not in "".join(words)


def test_long_remarks_are_broken_at_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table("Notes", ["system", "note"], [["a", "many words " * 40], ["b", ""]])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert said.split().count("many") == said.split().count("words") == 40


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.csv"), "got No space left on device in a.csv"),
        (UnicodeEncodeError("ascii", "film ü.png", 5, 6, "no"), r"must fit its encoding, ascii, got '\xfc'"),
    ],
)
def test_what_the_system_refuses_is_said_in_a_line(
    fault: Exception, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise fault

    monkeypatch.setattr("sys.argv", ["hilum"])
    with pytest.raises(SystemExit) as ended:
        run(app)
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert not printed.out
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1
