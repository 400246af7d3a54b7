"""The limitations paragraph and the abstract skeleton, filled with the run's own numbers."""

from typing import Any

from projects.redheart.models.sizes import TOTAL_TARGET
from projects.redheart.paper.latex import escape, shown
from projects.redheart.paper.origin import Labels
from projects.redheart.paper.sources import Source
from shared.crossover.acceptance import CROSS_FITTED, HELD_OUT

_TASKS = {
    "bentham": "ten scores after Bentham",
    "regret": "regret",
    "surd": "four measures (surprise, uncertainty, relevance and depth)",
}
_TEXTS = {
    Labels.GENERATED: "stand-in stories made by a generator",
    Labels.LANGUAGE_MODEL: "stories labelled by a language model",
    Labels.HUMAN: "comments labelled by people",
    Labels.UNKNOWN: "texts",
}
_FORMS = {
    HELD_OUT: "by a test on stories held out for it",
    CROSS_FITTED: (
        "by a cross-fitted test: for want of stories to hold out, each part of them was judged by a choice made on the "
        "other parts, so no story served the test alone"
    ),
}


def limitations(source: Source) -> str:
    """What a reader must know before believing the numbers, as LaTeX."""
    report = source.report
    folds = report["data"]["folds"]
    test = folds.get("test", {"n": 0, "groups": 0})
    sentences = [source.labels.sentence]
    sentences.append(
        f"The test fold holds {test['n']:,} stories in {test['groups']:,} groups, the fit used "
        f"{folds.get('train', {'n': 0})['n']:,}; differences smaller than the intervals show cannot be told from none."
    )
    sentences.append(f"All numbers are of one run with seed {report['seed']}; another seed would add its own spread.")
    encoder = _encoder(source)
    if encoder:
        sentences.append(f"The text encoder is {encoder}; another would give other numbers.")
    if report.get("cost", {}).get("peak_gpu_mb") is None:
        sentences.append("The run was made without an accelerator, so its times say nothing about one.")
    if source.num_parameters < 0.9 * TOTAL_TARGET:
        sentences.append(
            f"The network has {source.num_parameters:,} parameters; the full size of {TOTAL_TARGET:,} was not trained "
            "for these tables."
        )
    return "\\paragraph{Limitations.}\n" + "\n".join(escape(sentence) for sentence in sentences) + "\n"


def abstract(source: Source) -> str:
    """A skeleton with the run's numbers; what only its authors can say stands in brackets."""
    report = source.report
    final = source.estimate("final", "f1_macro")
    accuracy = source.estimate("final", "accuracy")
    test = report["data"]["folds"].get("test", {"n": 0})
    sentences = [
        "[Why emotion, ethics and regret in a text matter: one sentence.]",
        f"We train one network for {_answered(report)} ({source.num_parameters:,} parameters).",
        f"On {test['n']:,} test {_TEXTS[source.labels]}, opened once, it reaches a macro-F1 of {_said(final)} and an "
        f"accuracy of {_said(accuracy)}.",
    ]
    if report.get("crossover") is not None:
        sentences.append(_crossed(source))
    calibrated = report.get("calibration")
    if calibrated is not None:
        before, after = calibrated["before"]["ece"], calibrated["after"]["ece"]
        sentences.append(
            f"Calibration ({calibrated['method']}) changes the expected calibration error from {_said(before)} to "
            f"{_said(after)}."
        )
    for task, found in report.get("tasks", {}).items():
        scores = found["rows"].get("final", {})
        if "spearman" in scores:
            sentences.append(f"For {task}, Spearman's correlation is {_said(scores['spearman'])}.")
    sentences.append("[What follows from this: one sentence that the intervals above bear.]")
    return "\\begin{abstract}\n" + "\n".join(_line(sentence) for sentence in sentences) + "\n\\end{abstract}\n"


def _answered(report: dict[str, Any]) -> str:
    """What the network was asked that the test has targets for; what it has none for is masked, and is said to be."""
    measured = report.get("tasks", {})
    names = ["the emotion of a text", *(words for task, words in _TASKS.items() if task in measured)]
    if len(names) == 1:
        return f"{names[0]}; its other tasks are masked, since the data have no targets for them,"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _crossed(source: Source) -> str:
    """What became of the crossover, and by which test."""
    report, details = source.report, source.crossover or {}
    decision = report["crossover"]["decision"]
    became = f"was {decision}" if decision != "undecidable" else "could be neither accepted nor declined"
    if details and details.get("acceptance") is None:
        tested = "before any test, since the search found nothing to test"
    else:
        tested = _FORMS.get(str(details.get("form")), "by its acceptance test")
    difference = _difference(report, "crossover")
    gain = f"; its macro-F1 on the test fold minus that of the best single epoch is {_said(difference)}"
    return f"Taking each module from the epoch where it was best {became} {tested}{gain if difference else ''}."


def _line(sentence: str) -> str:
    # A line that begins with a bracket could be read as an argument of what stands before.
    return "{}" + escape(sentence) if sentence.startswith("[") else escape(sentence)


def _said(estimate: dict[str, Any] | None) -> str:
    text = shown(estimate)
    return "not defined" if text == "--" else text


def _difference(report: dict[str, Any], row: str) -> dict[str, Any] | None:
    found: dict[str, Any] = next((entry for entry in report["models"] if entry["name"] == row), {})
    difference = found.get("diff_to_best_single", {}).get("f1_macro")
    return None if difference is None else dict(difference)


def _encoder(source: Source) -> str | None:
    """Name of the text encoder: what the network said of itself, else the configuration's."""
    said = source.report.get("artifacts", {}).get("encoder")
    if said is None:
        encoder = source.config["data"].get("encoder")
        said = encoder.get("name") if isinstance(encoder, dict) else encoder
    return None if said is None else str(said)
