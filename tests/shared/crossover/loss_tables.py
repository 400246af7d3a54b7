"""Runs of the selection as it is built, on pure loss tables: real candidates, search and cross-fitting, no network."""

from functools import cache

import numpy as np
import torch
from torch import nn

from shared.crossover.acceptance import CROSS_FITTED, HELD_OUT, accept
from shared.crossover.candidates import build_candidates
from shared.crossover.selection import Selection
from shared.crossover.settings import BestSingle, CrossoverSettings
from shared.module_groups import ModuleGroups
from shared.weights import weights_sha256

MODULES = 3


@cache
def module_groups(number):
    return ModuleGroups.of(nn.ModuleDict({f"m{k}": nn.Linear(1, 1, bias=False) for k in range(number)}))


@cache
def state(epoch, number=MODULES):
    return {f"m{k}.weight": torch.full((1, 1), float(epoch)) for k in range(number)}


@cache
def record(epoch, number):
    parts = module_groups(number).split(state(epoch, number))
    return {"groups": {name: {"sha256": weights_sha256(part)} for name, part in parts.items()}}


class Epochs:
    """Stands for the snapshot store: every epoch has a snapshot, and its weights are its number."""

    folder = "snapshots"

    def __init__(self, number, modules):
        self._number, self._modules = number, modules

    def epochs(self):
        return list(range(self._number))

    def record(self, epoch):
        return record(epoch, self._modules)

    def has(self, epoch, group):
        return group in self.record(epoch)["groups"]


class Tables:
    """Stands for the evaluator: the loss of a child in each sample group is the sum of its sources' effects."""

    has_batch_norm = False

    def __init__(self, effects, difficulty, table):
        self._effects, self._difficulty = effects, difficulty
        self._epochs = [source.epoch for source in table.sources]
        self.group = np.arange(effects.shape[2])

    def losses(self, assignment):
        return self._difficulty + sum(self._effects[k, self._epochs[s]] for k, s in enumerate(assignment))


def selection_of(effects, num_val, best=None, difficulty=0.0, pooled=True, seed=0, draws=300):
    """The selection of a run.

    Args:
        effects: (modules, epochs, groups of val and accept) loss that a module group adds at an epoch.
        num_val: Groups of val, the first ones; sweet spots are the minima of their noisy mean losses.
        best: Epoch of the best single checkpoint; None: the lowest mean loss on val.
        difficulty: Loss that all children have in a group, (n,).
        pooled: Whether all groups select or only those of val.
        seed: Of blocks and draws.
        draws: Of the bill.
    """
    modules, epochs, num_groups = effects.shape
    if best is None:
        best = int(np.argmin(effects[:, :, :num_val].sum(axis=0).mean(axis=1)))
    groups = module_groups(modules)
    spots = {name: int(np.argmin(effects[k, :, :num_val].mean(axis=1))) for k, name in enumerate(groups.names)}
    single = BestSingle(state(best, modules), best)
    table = build_candidates(groups, Epochs(epochs, modules), spots, single, (2, 4))
    used = slice(0, num_groups if pooled else num_val)
    difficulty = np.broadcast_to(difficulty, num_groups)
    settings = CrossoverSettings(seed=seed, draws=draws)
    tables = Tables(effects[:, :, used], difficulty[used], table)
    selection = Selection(tables, table, settings, None, lambda done, total: None)
    whole = Tables(effects, difficulty, table)
    return selection, lambda assignment: whole.losses(table.best_single) - whole.losses(assignment)


def outcome(effects, num_val, form, best=None, difficulty=0.0, seed=0):
    """Decision of one run as the crossover takes it: "accepted", "declined", "undecidable"."""
    selection, gains = selection_of(effects, num_val, best, difficulty, form == CROSS_FITTED, seed)
    child = selection.search().best
    if child == selection.table.best_single:
        return "declined"
    if form == HELD_OUT:
        return accept(gains(child)[num_val:], form).decision
    unseen = np.arange(effects.shape[2]) >= num_val
    return accept(selection.cross_fitted(), form, selection.blocks, unseen).decision
