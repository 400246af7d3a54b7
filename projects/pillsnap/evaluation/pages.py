"""The detailed evaluation in words: evaluation.md and what the terminal shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shared.report import wording
from shared.report.evaluation import ALL

TARGETS = {(ALL, "top1"): (0.85, 0.80), (ALL, "top5"): (0.95, 0.92), ("real", "top1"): (0.80, 0.75)}
"""Aim and least value of the project's targets, by part and score."""

CLIENT_ROW = "JPEG_85"
_MOST_WEAK = 30


def verdicts(content: Mapping[str, Any]) -> list[str]:
    """Say the results in whole sentences, the main one first."""
    parts = (_headline, _targets, _floor, _client, _worst, _weak, _open_set, _attributes, _retrieval, _agreement)
    return [sentence for part in parts for sentence in part(content)]


def markdown(content: Mapping[str, Any], figures: Mapping[str, str]) -> str:
    """Return evaluation.md.

    Args:
        content: Content of evaluation.json.
        figures: Title to path relative to the page.
    """
    sections = [
        f"# {content['experiment']}: evaluation of run {content['run']}\n\n"
        + "\n".join(f"- {sentence}" for sentence in verdicts(content)),
        "## Test photos\n\n" + _scores_table(content["clean"]["scores"]),
        "## Stress\n\n"
        "Each row changes all test photos before the preprocessor; changes are paired to the clean photos by group.\n\n"
        + _stress_table(content["stress"]),
        "## Weak classes\n\n" + _weak_table(content["clean"]),
    ]
    if "open_set" in content:
        sections.append("## None of these\n\n" + _open_set_section(content["open_set"], content["tuning"]))
    if "attributes" in content:
        sections.append("## Shape and colour heads\n\n" + _attribute_table(content["attributes"]))
    if content.get("retrieval"):
        sections.append("## Front to back\n\n" + _retrieval_table(content["retrieval"]))
    sections.append("## Figures\n\n" + "\n\n".join(f"![{title}]({path})" for title, path in figures.items()))
    sections.append("## How\n\n" + "\n".join(f"- {sentence}" for sentence in content["notes"]))
    return "\n\n".join(sections) + "\n"


def _headline(content: Mapping[str, Any]) -> Iterator[str]:
    for name, part in content["clean"]["scores"].items():
        where = "All test photos" if name == ALL else f"Domain {name}"
        scores = [f"top-{top[3:]} {_value(part[top])}" for top in ("top1", "top5") if top in part]
        yield f"{where} ({part['n']:,} photos, {wording.groups(part['groups'])}): {', '.join(scores)}."


def _targets(content: Mapping[str, Any]) -> Iterator[str]:
    """The targets are about the hundred drugs; sets of other classes have none."""
    if not content["has_targets"]:
        return
    for (name, score), (aim, least) in TARGETS.items():
        value = content["clean"]["scores"].get(name, {}).get(score, {}).get("value")
        if value is None:
            continue
        verdict = "reached" if value >= aim else "least value reached, aim not" if value >= least else "not reached"
        where = "" if name == ALL else f" on {name} photos"
        yield f"Target top-{score[3:]}{where} {aim:.2f} (least {least:.2f}): {verdict}, {value:.3f}."


def _floor(content: Mapping[str, Any]) -> Iterator[str]:
    floor = content["floor"]
    for name, part in floor["scores"].items():
        where = "All test photos" if name == ALL else f"Domain {name}"
        difference = floor["network_minus_floor"][name]["top1_change"]
        yield (
            f"{where}: floor ({floor['what']}) top-1 {_value(part['top1'])}; the network minus the floor "
            f"{_value(difference, signed=True)}."
        )


def _client(content: Mapping[str, Any]) -> Iterator[str]:
    row = _row(content["stress"], CLIENT_ROW)
    if row is not None:
        yield f"What the client's JPEG costs: top-1 {_value(row['parts'][ALL]['top1_change'], signed=True)}."


def _worst(content: Mapping[str, Any]) -> Iterator[str]:
    rows = sorted(content["stress"], key=lambda row: row["parts"][ALL]["top1_change"]["value"])[:3]
    words = [f"{row['words']} {wording.number(row['parts'][ALL]['top1_change']['value'], True)}" for row in rows]
    if words:
        yield f"Hardest conditions, change of top-1: {'; '.join(words)}."


def _weak(content: Mapping[str, Any]) -> Iterator[str]:
    clean = content["clean"]
    yield f"{len(clean['weak_classes'])} of {len(clean['classes'])} classes are below 0.70 on the test photos."
    pairs = clean.get("look_alikes")
    if pairs:
        yield (
            f"{pairs['classes']} classes share form, shape and colours with another; of their {pairs['wrong']} wrong "
            f"answers on {pairs['n']:,} photos {pairs['wrong_for_look_alike']} name such a look-alike."
        )


def _open_set(content: Mapping[str, Any]) -> Iterator[str]:
    part = content.get("open_set")
    if part is None:
        yield f"None of these: not measured, {content['open_set_missing']}."
        return
    kind = part["chosen"]["score"]
    decisions = part["decisions"]
    yield (
        f"None of these ({kind}): AUROC {_value(part['scores'][kind]['auroc'])} on {part['unknown_classes']} held-out "
        f"classes; {_value(decisions['known_answered'])} of known photos answered, "
        f"{_value(decisions['unknown_declined'])} of unknown ones declined."
    )
    yield _assumption(part["base_rate"])


def _assumption(base_rate: float) -> str:
    return (
        f"The probability of none of these is for {100 * base_rate:g} % of photos of none of the classes; that share "
        "is an assumption, nobody has measured it."
    )


def _attributes(content: Mapping[str, Any]) -> Iterator[str]:
    for name, row in content.get("attributes", {}).items():
        if "accuracy" in row:
            floor = (
                f"always saying {row['most_common']}, the most common value in train, gives {_value(row['floor'])}, "
                f"the head minus that {_value(row['head_minus_floor'], signed=True)}."
                if "floor" in row
                else "no train photo has the label, so there is no floor."
            )
            yield f"Head {name}: accuracy {_value(row['accuracy'])} on {row['n']:,} photos; {floor}"


def _retrieval(content: Mapping[str, Any]) -> Iterator[str]:
    if "retrieval_missing" in content:
        yield f"Front to back: not measured, {content['retrieval_missing']}."
    for name, part in content.get("retrieval", {}).items():
        yield (
            f"Front to back, {name}: recall@1 {_value(part['features']['recall@1'])} among {part['gallery']} pills "
            f"(pixels {wording.number(part['pixels']['recall@1']['value'])}, chance "
            f"{wording.number(part['chance']['recall@1'])})."
        )


def _agreement(content: Mapping[str, Any]) -> Iterator[str]:
    found = content["agreement"]
    if found["missing"] or found["share"] is None or found["share"] < 1.0:
        share = "none" if found["share"] is None else f"{found['share']:.4f}"
        yield (
            f"Warning: this pass and the run's own test name the same class on {share} of {found['n']:,} photos "
            f"({found['missing']} are not in predictions.csv)."
        )


def _scores_table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    tops = [top for top in ("top1", "top5") if all(top in part for part in scores.values())]
    rows = [
        [name, f"{part['n']:,}", str(part["groups"]), *(_value(part[top]) for top in tops)]
        for name, part in scores.items()
    ]
    return _grid(["photos", "n", "groups", *(f"top-{top[3:]}" for top in tops)], rows)


def _stress_table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "No condition was run."
    names = list(rows[0]["parts"])
    header = ["condition", *(head for name in names for head in (f"top-1, {name}", f"change, {name}"))]
    has_top5 = "top5" in rows[0]["parts"][ALL]
    lines = []
    for row in rows:
        cells = [
            cell
            for name in names
            for cell in (
                wording.number(row["parts"][name]["top1"]["value"]),
                _value(row["parts"][name]["top1_change"], signed=True),
            )
        ]
        last = [_value(row["parts"][ALL]["top5_change"], signed=True)] if has_top5 else []
        lines.append([row["words"], *cells, *last])
    return _grid([*header, *(["change of top-5, all"] if has_top5 else [])], lines)


def _weak_table(clean: Mapping[str, Any]) -> str:
    weak = [row for row in clean["classes"] if row["class"] in set(clean["weak_classes"])]
    if not weak:
        return "No class is below 0.70."
    rows = []
    for row in weak[:_MOST_WEAK]:
        taken = "; ".join(f"{other['label']} ({other['n']})" for other in row["taken_for"])
        alike = f"{100 * row['taken_for_look_alike']:.0f} %" if "look_alikes" in row else ""
        rows.append([row["class"], row["label"], str(row["n"]), _value(row["accuracy"]), taken, alike])
    more = f"\n\n{len(weak) - _MOST_WEAK} more stand in evaluation.json." if len(weak) > _MOST_WEAK else ""
    return _grid(["class", "name", "photos", "accuracy", "taken for", "taken for a known look-alike"], rows) + more


def _open_set_section(part: Mapping[str, Any], tuning: Mapping[str, Any]) -> str:
    scores = [
        [kind, _value(row["auroc"]), _value(row["fpr95"]), wording.number(tuning["auroc"][kind])]
        for kind, row in part["scores"].items()
    ]
    decisions = [[key.replace("_", " "), _value(entry)] for key, entry in part["decisions"].items()]
    calibration = [[key, _value(entry)] for key, entry in part["calibration"].items()]
    chosen = part["chosen"]
    return (
        f"Score {chosen['score']}, slope {chosen['slope']:.4g}, offset {chosen['offset']:.4g}, threshold "
        f"{chosen['threshold']:.4f}. Measured on {part['n_known']:,} photos of the classes (domain {part['domain']}) "
        f"and {part['n_unknown']:,} of {part['unknown_classes']} held-out classes.\n\n"
        + _grid(["score", "AUROC", "unknown answered where 95 % of known are", "AUROC on the tuning photos"], scores)
        + "\n\n"
        + _grid(["share", "at the threshold"], decisions)
        + f"\n\n{_assumption(part['base_rate'])} Its calibration at that share:\n\n"
        + _grid(["", "none of these"], calibration)
    )


def _attribute_table(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            name,
            str(row["n"]),
            _value(row["accuracy"]) if "accuracy" in row else wording.NO_VALUE,
            *(
                [row["most_common"], _value(row["floor"]), _value(row["head_minus_floor"], signed=True)]
                if "floor" in row
                else [wording.NO_VALUE] * 3
            ),
        ]
        for name, row in attributes.items()
    ]
    header = [
        "head",
        "photos with the label",
        "accuracy",
        "most common in train",
        "always saying it",
        "head minus that",
    ]
    return _grid(header, rows)


def _retrieval_table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, part in parts.items():
        where = f"{name} fronts ({part['queries']}) to {part['gallery_domain']} backs ({part['gallery']})"
        for source in ("features", "pixels"):
            rows.append([where, source, *(_value(part[source][key]) for key in ("recall@1", "recall@5", "mrr"))])
        rows.append(
            [where, "chance", *(wording.number(part["chance"][key]) for key in ("recall@1", "recall@5", "mrr"))]
        )
    return _grid(["search", "by", "recall@1", "recall@5", "MRR"], rows)


def _row(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    return next((row for row in rows if row["name"] == name), None)


def _value(entry: Mapping[str, Any], signed: bool = False) -> str:
    return wording.value_with_interval(entry, signed)


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |" for cells in lines)
