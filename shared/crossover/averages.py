"""Averages of snapshots: uniform soup, greedy soup, and the latest few (LAWA)."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

State = dict[str, Tensor]


class RunningMean:
    """Mean of state dicts taken in one after the other, in float64; one sum in memory, however many there are.

    Tensors that are not of floating point (counters, masks) are those of the last one added.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: State = {}
        self._dtypes: dict[str, torch.dtype] = {}

    def add(self, state: State) -> None:
        """Take one more into the mean.

        Raises:
            ValueError: If its names or shapes are others.
        """
        if self.count and _shapes(state) != _shapes(self._sums):
            raise ValueError("the states have different names or shapes; only snapshots of one network have a mean")
        for name, tensor in state.items():
            if not tensor.is_floating_point():
                self._sums[name] = tensor.detach().clone()
            elif self.count:
                self._sums[name] += tensor.detach().double()
            else:
                self._sums[name] = tensor.detach().double().clone()
            self._dtypes[name] = tensor.dtype
        self.count += 1

    def mean(self, also: State | None = None) -> State:
        """The mean in the tensors' own types; `also` counts as one more state, without being taken in.

        Raises:
            ValueError: If nothing was added yet.
        """
        if not self.count:
            raise ValueError("there is no state to average; at least 1 is needed")
        result = {}
        for name, total in self._sums.items():
            dtype = self._dtypes[name]
            if not dtype.is_floating_point:
                result[name] = (total if also is None else also[name]).detach().clone()
            elif also is None:
                result[name] = (total / self.count).to(dtype)
            else:
                result[name] = ((total + also[name].double()) / (self.count + 1)).to(dtype)
        return result


def average(states: Iterable[State]) -> State:
    """The mean of state dicts in order of time; integer tensors come from the last.

    Raises:
        ValueError: If there is none, or they differ in names or shapes.

    Source: Wortsman et al., "Model soups", ICML 2022 (uniform soup); Kaddour, "Stop Wasting My Time! Saving Days of
    ImageNet and BERT Training with Latest Weight Averaging", 2022 (the last k, LAWA).

    Example:
        >>> average([{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}])["w"].item()
        1.5
    """
    mean = RunningMean()
    for state in states:
        mean.add(state)
    return mean.mean()


def greedy_soup(
    epochs: Sequence[int],
    load: Callable[[int], State],
    score: Callable[[State], float],
    tell: Callable[[int], None] = lambda done: None,
) -> tuple[State, list[int], float]:
    """Add the snapshots one after the other, each only if the mean's loss does not rise.

    Args:
        epochs: Snapshots in the order of their validation loss, best first; the first one is always in.
        load: Gives the state of an epoch.
        score: Loss of a state on the select part.
        tell: Told how many snapshots are done.

    Returns:
        The soup, its members in the order they were added, and its loss.

    Raises:
        ValueError: If there is no epoch.

    Source: Wortsman et al., "Model soups", ICML 2022, recipe 1; integer tensors come from the newest member.
    """
    if not epochs:
        raise ValueError("epochs is empty; a soup needs at least 1 snapshot")
    mean, members = RunningMean(), [epochs[0]]
    mean.add(load(epochs[0]))
    best = score(mean.mean())
    tell(1)
    for done, epoch in enumerate(epochs[1:], start=2):
        state = load(epoch)
        found = score(mean.mean(also=state))
        if found <= best:
            mean.add(state)
            members.append(epoch)
            best = found
        tell(done)
    newest = load(max(members))
    soup = mean.mean()
    soup.update({name: tensor.clone() for name, tensor in newest.items() if not tensor.is_floating_point()})
    return soup, members, best


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
