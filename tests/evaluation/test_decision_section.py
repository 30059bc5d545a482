import json

import numpy as np
import pandas as pd
from made_reports import shown

from hilum.evaluation import decision
from hilum.evaluation.decision import decision_section
from hilum.evaluation.inputs import EvaluationSet


def some_section(films: int = 400, scale: float = 1.0) -> dict[str, object]:
    generator = np.random.default_rng(0)
    scores = 1 / (1 + np.exp(-generator.normal(-2, 1.5, (films, 2))))
    labels = (generator.random((films, 2)) < scores).astype(np.float64)
    labels[:, 1] = np.cumsum(labels[:, 1]) * labels[:, 1] == 1  # one film
    names = [f"{film}.png" for film in range(films)]
    truth = pd.DataFrame(labels, columns=["Mass", "Hernia"]).assign(film=names, patient=np.arange(films) // 2)
    table = pd.DataFrame(scale * scores, columns=["Mass", "Hernia"]).assign(film=names)
    return decision_section(EvaluationSet(truth, table, ("Mass", "Hernia")))


def test_the_section_is_json_and_says_who_is_too_few() -> None:
    section = some_section()
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    view = shown(decision, {"decision_curves": section})
    assert "Too few patients to say that of: Hernia." in view.sentences
    assert any("by more than chance: Mass." in sentence for sentence in view.sentences)
    mass, hernia = view.tables[0].rows
    assert " to " in mass[1].text
    assert hernia[1].text == "not tested"
    assert hernia[4].small == "too few patients with the finding: 1"
    assert hernia[5].small == "1 patient"


def test_plots_stay_in_their_frames_and_have_named_axes() -> None:
    view = shown(decision, {"decision_curves": some_section()})
    for figure in view.figures:
        assert (figure.across.name, figure.up.name) == ("threshold", "net benefit")
        paths = [line.path for line in figure.lines] + [figure.band]
        numbers = [
            float(word) for path in paths for word in path.replace("M", "").replace("L", "").replace("Z", "").split()
        ]
        assert min(numbers) >= 0
        assert max(numbers) <= 100
    assert view.figures[0].band
    assert not view.figures[1].band


def test_scores_that_are_no_probabilities_have_none() -> None:
    view = shown(decision, {"decision_curves": some_section(scale=9.0)})
    assert view.sentences[0].startswith("Scores outside [0, 1] are no probabilities")
    assert not view.figures
