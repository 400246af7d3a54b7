import csv
import json
import shutil
import subprocess

import pytest
from pylatexenc.latexwalker import LatexWalker

from projects.redheart.paper.origin import Labels, labels_of
from projects.redheart.paper.sources import read_sources
from projects.redheart.paper.tables import comparison, tables_of
from projects.redheart.paper.text import abstract, limitations
from projects.redheart.paper.write import write_paper
from projects.redheart.paper_tables import main
from shared.errors import CheckpointError, ConfigError, DataError
from tests.projects.redheart.paper.story_run import story_report, story_run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("paper")
    run = story_run(root)
    second = story_run(root, "20261122-091500-d4e5f6", ablated=False)
    write_paper(root / "out", read_sources([run, second]))
    return root, run, second


def cells(root, name, run="bare"):
    with (root / "out" / "tables" / run / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_all_files_are_there_and_main_holds_all_of_them(made):
    root, _, _ = made
    names = set(contents(root / "out"))
    tables = {
        "data_set", "quality", "architecture", "results", "differences", "per_class", "tasks", "calibration",
        "sweet_spots", "reference", "ablation", "sweep", "cost",
    }  # fmt: skip
    assert {name for name in names if name.startswith("tables/bare/")} == {
        f"tables/bare/{table}.{kind}" for table in tables for kind in ("tex", "csv")
    }
    figures = ("rows", "curves", "groups", "ablation")
    assert {f"figures/bare/{name}.{kind}" for name in figures for kind in ("pdf", "png")} <= names
    assert "tables/bare-d4e5f6/ablation.tex" not in names
    main_tex = (root / "out" / "main.tex").read_text()
    for name in names:
        if name.endswith((".tex", ".pdf")) and name != "main.tex":
            assert f"{{{name}}}" in main_tex


def test_every_tex_file_parses_strictly(made):
    root, _, _ = made
    files = sorted((root / "out").rglob("*.tex"))
    assert len(files) > 25
    for path in files:
        LatexWalker(path.read_text(), tolerant_parsing=False).get_latex_nodes()


def test_the_same_run_gives_the_same_bytes(made, tmp_path):
    root, run, second = made
    write_paper(tmp_path / "again", read_sources([run, second]))
    assert contents(tmp_path / "again") == contents(root / "out")


def test_the_tables_hold_the_report(made):
    root, run, _ = made
    report = json.loads((run / "report.json").read_text())
    results = {row["row"]: row for row in cells(root, "results")}
    assert list(results) == ["last", "best_single", "sweet_spot", "crossover", "final", "baseline: tfidf_logreg"]
    final = next(row for row in report["models"] if row["name"] == "final")["metrics"]["f1_macro"]
    assert [float(results["final"][key]) for key in ("f1_macro", "f1_macro lo", "f1_macro hi")] == [
        final["value"], final["lo"], final["hi"]
    ]  # fmt: skip
    shares = {row["part"]: row for row in cells(root, "data_set")}
    assert (shares["stories"]["train"], shares["joy"]["train"], shares["anger"]["train"]) == ("700", "75.0%", "0.0%")
    cost = {row["what"]: row["value"] for row in cells(root, "cost")}
    assert cost["steps that ran out of memory and were done again in smaller parts"] == "2"
    assert cost["peak memory of the accelerator (MB)"] == ""
    quality = {row["what"]: row["count"] for row in cells(root, "quality")}
    assert quality["near-duplicates removed (similarity from 92 % on)"] == "62"
    modules = {row["module"]: row for row in cells(root, "architecture")}
    assert modules["backbone"]["full size"] == "90624132"
    assert modules["backbone"]["difference"] == ""
    assert int(modules[""]["parameters"]) == sum(int(row["parameters"]) for name, row in modules.items() if name)
    ablation = {(row["module"], row["metric"]): row for row in cells(root, "ablation")}
    assert ablation["kalman", "emotion/nll"]["verdict"] == "changes no answer"
    assert [row["rate"] for row in cells(root, "sweep")] == ["0.0001", "0.0005"]


def test_the_reference_is_said_to_be_of_other_data(made):
    root, _, _ = made
    rows = cells(root, "reference")
    assert [(row["reference row"], row["reference test accuracy"], row["our row"]) for row in rows] == [
        ("single epoch", "0.718", "last"), ("best single epoch", "0.779", "best_single"),
        ("sweet spot", "0.814", "sweet_spot"), ("crossover", "0.857", "crossover"),
        ("", "", "final (crossover declined)"),
    ]  # fmt: skip
    report = json.loads((root / "redheart" / "bare" / "20261121-091500-a1b2c3" / "report.json").read_text())
    ours = {row["name"]: row["metrics"]["accuracy"]["value"] for row in report["models"]}
    assert [float(row["our test accuracy"]) for row in rows] == [
        ours[name] for name in ("last", "best_single", "sweet_spot", "crossover", "final")
    ]
    assert "cannot be set against ours" in (root / "out" / "tables" / "bare" / "reference.tex").read_text()


def test_limitations_and_abstract_are_filled_with_the_run_s_numbers(made):
    root, run, _ = made
    limits = (root / "out" / "limitations.tex").read_text()
    assert "come from a language model, not from people" in limits
    assert "stand-ins made by a generator" in limits
    assert "The test fold holds 90 stories in 90 groups, the fit used 700" in limits
    assert r"hashing\_384 50 \% \{x\}" in limits
    assert "730,466,848 was not trained" in limits
    text = (root / "out" / "abstract.tex").read_text()
    metrics = {row["name"]: row["metrics"] for row in json.loads((run / "report.json").read_text())["models"]}
    assert f"a macro-F1 of {metrics['final']['f1_macro']['value']:.3f} [" in text
    assert "was declined by a test on stories held out for it; its macro-F1" in text
    assert "test stand-in stories made by a generator" in text
    for table in ("data_set", "results", "per_class", "tasks"):
        tex = (root / "out" / "tables" / "bare" / f"{table}.tex").read_text()
        assert "stand-in stories with generated labels" in tex


def test_the_crossover_is_worded_by_the_test_that_was_made(tmp_path):
    run = story_run(tmp_path, ablated=False)

    def said(decision, details):
        report = story_report()
        report["crossover"]["decision"] = decision
        (run / "report.json").write_text(json.dumps(report))
        (run / "crossover.json").write_text(json.dumps(details))
        text = abstract(read_sources([run])[0])
        return next(line for line in text.splitlines() if line.startswith("Taking each module"))

    test = {"decision": "accepted"}
    assert "was accepted by a test on stories held out for it;" in said(
        "accepted", {"form": "held-out accept part", "acceptance": test}
    )
    crossed = said("accepted", {"form": "cross-fitted", "acceptance": test})
    assert "was accepted by a cross-fitted test: " in crossed
    assert "no story served the test alone; its macro-F1" in crossed
    assert "held out for it" not in crossed
    undecidable = said("undecidable", {"form": "cross-fitted", "acceptance": test})
    assert "could be neither accepted nor declined by a cross-fitted test" in undecidable
    assert "was declined before any test, since the search found nothing" in said(
        "declined", {"form": "cross-fitted", "acceptance": None}
    )


def test_text_and_tables_say_who_labelled(tmp_path):
    stories, comments = (
        story_run(tmp_path, name, kind=kind, ablated=False)
        for name, kind in (("20261121-091500-a1b2c3", "stories"), ("20261122-091500-d4e5f6", "goemotions"))
    )
    for run in (stories, comments):
        report = story_report()
        report["data"]["source"] = "real"
        if run == comments:
            del report["tasks"]
        (run / "report.json").write_text(json.dumps(report))
    by_model, by_people = read_sources([stories, comments])
    assert "come from a language model, not from people" in limitations(by_model)
    assert "stand-in" not in limitations(by_model)
    assert "90 test stories labelled by a language model" in abstract(by_model)
    assert "ten scores after Bentham, regret and four measures" in abstract(by_model)
    assert "annotators of a public corpus (GoEmotions)" in limitations(by_people)
    assert "language model" not in limitations(by_people) + abstract(by_people)
    assert "90 test comments labelled by people" in abstract(by_people)
    assert "Bentham" not in abstract(by_people)
    assert "its other tasks are masked" in abstract(by_people)
    captions = {table.name: table.caption for table in tables_of(by_model)}
    for name in ("data_set", "results", "per_class", "tasks"):
        assert "labels by a language model, not by people" in captions[name]
    assert "human labels" in next(table.caption for table in tables_of(by_people) if table.name == "results")
    assert [row[2] for row in comparison([by_model, by_people]).rows] == [
        "labels by a language model, not by people", "human labels"
    ]  # fmt: skip
    config = {"data": {"_target_": "elsewhere.Data"}}
    assert labels_of({"data": {"source": "real"}}, config) is Labels.UNKNOWN


def test_the_printed_ablation_leaves_out_what_has_no_value_and_may_run_over_pages(made):
    root, _, _ = made
    printed = (root / "out" / "tables" / "bare" / "ablation.tex").read_text()
    assert len(cells(root, "ablation")) == 16
    assert "kalman" not in printed
    assert printed.count(" & emotion/nll & ".replace("_", r"\_")) == 1
    assert r"\begin{longtable}" in printed
    assert "within each way by itself over its comparisons (switched off: 8)" in printed
    assert "8 pairs of module and score without any changed answer are left out" in printed


def test_a_run_without_a_part_has_no_table_of_it(tmp_path):
    run = story_run(tmp_path, ablated=False)
    report = story_report()
    for part in ("crossover", "calibration", "tasks", "cost"):
        del report[part]
    (run / "report.json").write_text(json.dumps(report))
    (tmp_path / "data" / "quality.json").unlink()
    (tmp_path / "sweep" / "lr_sweep_results.json").unlink()
    (source,) = read_sources([run])
    assert [table.name for table in tables_of(source)] == [
        "data_set", "architecture", "results", "differences", "per_class", "reference"
    ]  # fmt: skip
    write_paper(tmp_path / "out", [source])


def test_what_is_no_finished_run_is_named(tmp_path):
    run = story_run(tmp_path)
    with pytest.raises(ConfigError, match="a run stands twice"):
        read_sources([run, run])
    with pytest.raises(ConfigError, match=r"--sweep is .*, which has no lr_sweep_results\.json"):
        read_sources([run], sweep=tmp_path)
    (run / "report.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot be read \(JSONDecodeError.*; restore the run"):
        read_sources([run])
    (run / "report.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no report\.json \(its state is done\); finish it first"):
        read_sources([run])


def test_the_command_writes_and_says_where(tmp_path, capsys):
    run = story_run(tmp_path)
    main([str(run), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.splitlines()[-1] == f"paper: {tmp_path / 'out'}"
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "is not a run directory" in capsys.readouterr().err


@pytest.mark.slow
def test_main_compiles(made):
    root, _, _ = made
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex (texlive-latex-recommended), which is not installed: main.tex was only parsed")
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"],
            cwd=root / "out", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
    assert (root / "out" / "main.pdf").read_bytes().startswith(b"%PDF")
    for ending in ("pdf", "aux", "log"):
        (root / "out" / f"main.{ending}").unlink()
