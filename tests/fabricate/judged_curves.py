"""How often rules of `shared.advise` name the label of a fabricated log: counts, and the table in docs/advise.md."""

from collections import Counter

from shared.advise.curves import parse_log
from shared.advise.rules import diagnose
from tests.fabricate.loss_curves import KINDS, log_text, losses

NOISES = (0.01, 0.03, 0.1)
SEEDS = range(5000, 5100)  # the thresholds were set while looking at seeds from 1000 on
SAME = {"diverged": "lr_too_high"}  # two rules for one cause


def judged(noise, seeds=SEEDS):
    """Counts of (label, verdict) over all kinds."""
    counts = Counter()
    for kind in KINDS:
        for seed in seeds:
            findings = diagnose(parse_log(log_text(*losses(kind, seed, noise))))
            rule = findings[0].rule if findings else "healthy"
            counts[kind, SAME.get(rule, rule)] += 1
    return counts


def recall(counts, kind):
    """Share of the logs of a kind that were given its name."""
    return counts[kind, kind] / sum(n for (label, _), n in counts.items() if label == kind)


def precision(counts, kind):
    """Share of the logs given a name that are of that kind."""
    return counts[kind, kind] / max(1, sum(n for (_, verdict), n in counts.items() if verdict == kind))


def markdown(tables):
    """The table, one row a kind, from noise -> counts."""
    head = " | ".join(f"recall, precision at {noise:.0%}" for noise in tables)
    lines = [f"| label | {head} |", "|---|" + "---|" * len(tables)]
    for kind in KINDS:
        cells = " | ".join(f"{recall(c, kind):.2f}, {precision(c, kind):.2f}" for c in tables.values())
        lines.append(f"| {kind} | {cells} |")
    return "\n".join(lines)
