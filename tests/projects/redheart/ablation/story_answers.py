"""Made-up answers of a network and of the same network without one module or another."""

import numpy as np

from projects.redheart.ablation.answers import StoryAnswers
from projects.redheart.tasks import SCORES

SIGNAL = 2.0


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def story_answers(count=400, signal=SIGNAL, noise_seed=1, missing=0.2):
    """Answers whose emotion and numbers follow the truth as far as `signal` says; the truth is always the same."""
    truth, noise = np.random.default_rng(0), np.random.default_rng(noise_seed)
    label = truth.integers(0, 7, count)
    probs = softmax(signal * np.eye(7)[label] + noise.normal(size=(count, 7)))
    prediction, target, mask = {}, {}, {}
    for task, names in SCORES.items():
        target[task] = truth.random((count, len(names)))
        mask[task] = truth.random((count, len(names))) >= missing
        mixed = signal * target[task] + noise.random((count, len(names)))
        prediction[task] = mixed / (signal + 1)
    return StoryAnswers(np.arange(count) + 50, np.arange(count), probs, label, prediction, target, mask)
