"""The directory of a finished run with everything that a paper reads, made in milliseconds."""

import csv
import json
from copy import deepcopy
from functools import lru_cache

import numpy as np
import torch
import yaml
from omegaconf import OmegaConf

from projects.redheart.ablation.compare import compare, sentences
from projects.redheart.describe import read_sizes
from projects.redheart.tasks import EMOTIONS, SCORES
from shared.packed_strings import PackedStrings
from shared.report.evaluation import calibration_scores, evaluate_classification
from shared.report.outputs import TestOutputs
from shared.report.schema import validate_report
from shared.sample_index import SampleIndex
from tests.projects.redheart.ablation.story_answers import story_answers

NUM = 90
ESTIMATE = {"value": 0.5, "lo": 0.41, "hi": 0.6, "n_groups": NUM, "method": "group bootstrap, 200 draws"}


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def story_report(experiment="bare", run="20261121-091500-a1b2c3"):
    """A valid report.json of a made-up test fold; each call gives a copy of its own."""
    return deepcopy(_measured()) | {"experiment": experiment, "run": run}


@lru_cache(maxsize=1)
def _measured():
    experiment, run = "bare", "20261121-091500-a1b2c3"
    rng = np.random.default_rng(0)
    label = np.arange(NUM) % len(EMOTIONS)
    index = SampleIndex(
        ids=PackedStrings.pack(f"stories/{row}" for row in range(NUM)),
        group=np.arange(NUM, dtype=np.int32),
        group_names=PackedStrings.pack(f"story {row}" for row in range(NUM)),
        label=label.astype(np.int16),
        classes=EMOTIONS,
        digest=np.zeros((NUM, 16), dtype=np.uint8),
        meta={},
        meta_names={},
        numbers={},
        source="stand-in",
    )
    rows = ("last", "best_single", "sweet_spot", "crossover", "final")
    signal = np.eye(len(EMOTIONS))[label]
    probs = {name: softmax(2 * signal + rng.normal(size=signal.shape)) for name in (*rows, "tfidf_logreg")}
    outputs = TestOutputs(probs=probs, target=label, rows=np.arange(NUM))
    evaluation = evaluate_classification(outputs, index, model_rows=rows, seed=1, draws=100)
    calibrated = calibration_scores(probs["final"], outputs, index, seed=1, draws=100)
    tasks = {
        task: {
            "n": NUM, "groups": NUM,
            "rows": {row: dict.fromkeys(("mae", "rmse", "r2", "spearman"), ESTIMATE) for row in rows},
            "per_number": {name: dict.fromkeys(("mae", "spearman"), ESTIMATE) for name in names},
        }
        for task, names in SCORES.items()
    }  # fmt: skip
    content = {
        "schema": 1, "project": "redheart", "experiment": experiment, "run": run, "status": "done", "seed": 7,
        "started": "2026-11-21T09:15:00+00:00", "finished": "2026-11-21T09:53:20+00:00", "config_hash": "0f" * 32,
        "data_hash": index.data_hash(), "splits_hash": "3c" * 32, "git": {"commit": None, "dirty": None},
        "data": {
            "source": "stand-in", "skipped": [], "leakage": {"checked": {"groups": NUM}, "ok": True},
            "folds": {"train": {"n": 700, "groups": 690}, "test": {"n": NUM, "groups": NUM}},
        },
        **evaluation.as_dict(), "tasks": tasks,
        "crossover": {
            "decision": "declined", "reason": "no gain", "n_candidates": 5, "expected_luck": 0.01, "gain_val": 0.02,
            "gain_accept": -0.01, "smallest_detectable": 0.03, "sources": {"A": 3, "advanced_emotion": 5},
        },
        "calibration": {
            "method": "temperature", "reason": "r", "temperature": 1.2, "before": calibrated, "after": calibrated,
            "per_group": {},
        },
        "cost": {
            "wall_s": 60.5, "samples_per_s": 118.2, "peak_rss_mb": 800.0, "peak_gpu_mb": None, "oom_events": 2,
        },
        "artifacts": {"encoder": "hashing_384 50 % {x}", "parameters": "1"}, "warnings": [],
    }  # fmt: skip
    validate_report(content)
    return content


COMMON = {
    "encoder": {"name": "hashing", "dim": 16, "pooling": "mean", "normalise": True, "finetune": False, "batch_size": 8},
    "max_parts": 16, "batch_size": 8, "eval_batch_size": 8, "num_workers": 0,
}  # fmt: skip


def data_config(kind, root):
    """The node `data` of config.yaml: prepared stories below `root`, or GoEmotions."""
    if kind == "goemotions":
        target = "projects.redheart.data.goemotions_datamodule.GoEmotionsDataModule"
        return {"_target_": target, "root": str(root), "num_stories": None, **COMMON}
    target = "projects.redheart.data.datamodule.StoriesDataModule"
    return {
        "_target_": target, "root": str(root), "standin": {}, "num_stories": None, "leave_out_subject": None, **COMMON,
    }  # fmt: skip


def story_run(outputs, name="20261121-091500-a1b2c3", experiment="bare", ablated=True, kind="stories"):
    """Write a run with report, curves, splits, ablation, sweep and quality below `outputs`; return its folder."""
    folder = outputs / "redheart" / experiment / name
    (folder / "checkpoints").mkdir(parents=True)
    data, sweep = outputs / "data", outputs / "sweep"
    report = story_report(experiment, name)
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "status.json").write_text(json.dumps({"schema": 1, "state": "done", "stages": {}}))
    sizes = OmegaConf.to_container(OmegaConf.create(read_sizes("redheart_tiny")))
    config = {
        "data": data_config(kind, data),
        "seed": 7,
        "paths": {"cache": str(outputs / "cache")},
        "optimizer": {"lr_from": str(sweep)},
        "model": {"sizes": sizes, "without": []},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save({"hyper_parameters": {"embedding_dim": 16}}, folder / "checkpoints" / "best.ckpt")
    with (folder / "metrics.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["epoch", "train/loss", "val/loss", "val/accuracy", "val/f1_macro", "val/group/A/loss"])
        writer.writerows([e, 3 / (e + 1), 3.2 / (e + 1), 0.3 + e / 20, 0.2 + e / 20, 2 / (e + 1)] for e in range(6))
    with (folder / "splits.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sample_id", "group", "label", "fold"])
        writer.writerows([f"t{n}", f"t{n}", "joy" if n < 525 else "fear", "train"] for n in range(700))
        writer.writerows([f"stories/{n}", str(n), EMOTIONS[n % 7], "test"] for n in range(NUM))
    crossover = {"form": "held-out accept part", "acceptance": {"decision": "declined"}}
    (folder / "crossover.json").write_text(json.dumps(crossover))
    if ablated:
        rows = compare(
            story_answers(60), {"dsp": story_answers(60, 0.3), "kalman": story_answers(60)},
            seed=0, draws=100, advance=lambda done, total: None,
        )  # fmt: skip
        part = {"comparisons": 8, "rows": rows, "sentences": sentences(rows)}
        (folder / "ablation").mkdir()
        (folder / "ablation" / "ablation.json").write_text(json.dumps({"schema": 1, "switched_off": part}))
    data.mkdir(exist_ok=True)
    quality = {
        "n_read": 1046, "n_kept": 984, "threshold": 92, "truncated": 3, "missing": {"title": 4}, "warnings": [],
        "removed": [{"id": str(n), "like": "a", "ratio": 95.0} for n in range(62)],
    }  # fmt: skip
    (data / "quality.json").write_text(json.dumps(quality))
    sweep.mkdir(exist_ok=True)
    epochs = [{"epoch": 0, "train_loss": 2.0, "val_loss": 2.1, "gradient_norm": None}]
    points = [
        {"lr": 1e-4, "status": "done", "score": 2.11, "reason": "", "epochs": epochs},
        {"lr": 5e-4, "status": "failed", "score": None, "reason": "the loss is 100 % not_finite", "epochs": []},
    ]
    (sweep / "lr_sweep_results.json").write_text(json.dumps({"schema": 1, "points": points}))
    return folder
