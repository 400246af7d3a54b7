"""The limitations paragraph and the abstract skeleton, filled with the run's own numbers."""

from typing import Any

from projects.redheart.models.sizes import TOTAL_TARGET
from projects.redheart.paper.latex import escape, shown
from projects.redheart.paper.sources import Source


def limitations(source: Source) -> str:
    """What a reader must know before believing the numbers, as LaTeX."""
    report = source.report
    folds, is_real = report["data"]["folds"], report["data"]["source"] == "real"
    test = folds.get("test", {"n": 0, "groups": 0})
    sentences = []
    if is_real:
        sentences.append(
            "The labels of annotated stories come from a language model, not from people; where a public corpus is "
            "used instead, they come from its annotators and only the emotion is known."
        )
    else:
        sentences.append(
            "The stories are stand-ins made by a generator from templates with labels that are consistent by "
            "construction: they show that the method runs, not how well it does on real text. The labels of the "
            "stories that the method is meant for come from a language model, not from people."
        )
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
        f"We train one network for the emotion of a story, Bentham's ten circumstances, regret and four measures of "
        f"surprise, uncertainty, relevance and depth ({source.num_parameters:,} parameters).",
        f"On {test['n']:,} test stories, opened once, it reaches a macro-F1 of {_said(final)} and an accuracy of "
        f"{_said(accuracy)}.",
    ]
    crossed = report.get("crossover")
    if crossed is not None:
        difference = _difference(report, "crossover") or _difference(report, "final")
        gain = f"; its macro-F1 minus that of the best single epoch is {_said(difference)}" if difference else ""
        sentences.append(
            f"Taking each module from the epoch where it was best was {crossed['decision']} by a test on stories that "
            f"served nothing else{gain}."
        )
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
