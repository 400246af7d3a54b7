"""Which module group owns each tensor of a network, each tensor once, tied ones too."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from shared.errors import ConfigError

REST = "rest"
"""Default group of the tensors that stand directly on the module."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")
_NAMED_IN_A_SENTENCE = 5


@dataclass(frozen=True)
class ModuleGroups:
    """A partition of the tensors of a module's `state_dict`.

    Attributes:
        prefixes: Group -> the prefixes that select its tensors, in the order given.
        members: Group -> names of the tensors that it owns, in the order of the state dict; no aliases.
        aliases: Further name of a tied tensor -> the name under which it is owned, perhaps by another group.
        shapes: Shape of each tensor, aliases included, in the order of the state dict.
    """

    prefixes: dict[str, tuple[str, ...]]
    members: dict[str, tuple[str, ...]]
    aliases: dict[str, str]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, module: nn.Module, groups: Mapping[str, Sequence[str]] | None = None) -> "ModuleGroups":
        """Assign each tensor of `module.state_dict()` to exactly one group.

        A prefix "a.b." selects the names that start with it, "a.b" the name a.b and those that start with "a.b.".
        Names of one tensor (tied weights) count once: it belongs to the group of the first of them that a group
        selects. Non-persistent buffers are configuration and do not count.

        Args:
            module: The network.
            groups: Name -> prefixes. None: what `module.module_groups()` says; without that method one group for each
                direct child that has tensors of its own, and "rest" for tensors directly on the module.

        Raises:
            ConfigError: If a prefix selects nothing, a tensor falls in no group or in two, a group is left without a
                tensor, tensors of two groups overlap in memory, a tensor has no shape yet (lazy modules), a name cannot
                be a file's, or two names differ only in case.
        """
        tensors = _tensors(module)
        aliases = _aliases(tensors)
        if groups is None:
            own: Any = getattr(module, "module_groups", None)
            groups = _by_child(tensors, aliases) if own is None else own()
        prefixes = _checked_prefixes(groups)
        if not tensors:
            raise ConfigError(f"{type(module).__name__} has no parameter and no buffer: there is nothing to group")
        selected = _selected(tensors, prefixes)
        aliases = _owned_names(tensors, aliases, selected)
        missing = [name for name in tensors if name not in aliases and name not in selected]
        if missing:
            raise ConfigError(f"{_listed(missing)} in no module group; the groups are {', '.join(prefixes)}")
        members = {
            group: tuple(name for name in tensors if name not in aliases and selected[name] == group)
            for group in prefixes
        }
        _check_members(members, aliases, selected)
        _check_overlaps(tensors, aliases, selected)
        return cls(prefixes, members, aliases, {name: tuple(tensor.shape) for name, tensor in tensors.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups in the order given."""
        return tuple(self.members)

    def owner(self, name: str) -> str:
        """Group of a tensor, by any of its names.

        Raises:
            ValueError: If no tensor is called so.
        """
        name = self.aliases.get(name, name)
        for group, names in self.members.items():
            if name in names:
                return group
        raise ValueError(f"no tensor is called {name!r}; {_nearest(name, list(self.shapes))}")

    def expected(self, group: str) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors that a group owns."""
        return {name: self.shapes[name] for name in self.members[group]}

    def split(self, state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Group -> owned tensors of a state dict; aliases are left out, tensors are not copied.

        Raises:
            ValueError: If an owned tensor is missing from `state`.
        """
        missing = [name for names in self.members.values() for name in names if name not in state]
        if missing:
            raise ValueError(f"{_listed(missing)} missing from the state dict; {len(self.shapes)} names are needed")
        return {group: {name: state[name] for name in names} for group, names in self.members.items()}

    def join(self, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The state dict of all parts, in its first order, a tied tensor under each of its names.

        Raises:
            ValueError: If a group or one of its tensors is missing.
        """
        if absent := [group for group in self.members if group not in parts]:
            raise ValueError(
                f"module groups {', '.join(absent)} are missing; all of {', '.join(self.names)} are needed"
            )
        owned = {name: tensor for group in self.members for name, tensor in parts[group].items()}
        missing = [name for names in self.members.values() for name in names if name not in owned]
        if missing:
            raise ValueError(f"{_listed(missing)} missing from the parts; {len(self.shapes)} names are needed")
        return {name: owned[self.aliases.get(name, name)] for name in self.shapes}

    def units(self, module: nn.Module) -> dict[str, str]:
        """Submodule -> group, for each prefix that names a whole submodule: what can be computed by itself.

        Lists and dicts of modules have no forward of their own, so their elements stand in their place.
        """
        submodules = dict(module.named_modules(remove_duplicate=False))
        found: dict[str, str] = {}
        for group, prefixes in self.prefixes.items():
            for prefix in prefixes:
                for name in _callable_names(submodules, prefix.removesuffix(".")):
                    found[name] = group
        return found

    def describe(self) -> dict[str, Any]:
        """Per group its prefixes, number of tensors and number of values; and the tied names. Plain data."""
        groups = {
            group: {
                "prefixes": list(self.prefixes[group]),
                "tensors": len(names),
                "values": sum(torch.Size(self.shapes[name]).numel() for name in names),
            }
            for group, names in self.members.items()
        }
        return {"groups": groups, "tied": dict(self.aliases)}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """The state dict without what is no tensor (extra state); the tensors themselves, so that ties can be seen."""
    state = module.state_dict(keep_vars=True)
    if lazy := [name for name, value in state.items() if is_lazy(value)]:
        raise ConfigError(
            f"{_listed(lazy)} not initialised yet, so it has no shape; run one batch through the network before the "
            "fit, or build the module with known sizes instead of a lazy one"
        )
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _aliases(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Further name -> first name of the same tensor: the same object, or the same place in memory in the same form."""
    first: dict[Any, str] = {}
    aliases = {}
    for name, tensor in tensors.items():
        key: Any = id(tensor)
        if tensor.numel() and not tensor.is_meta:
            key = (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if first.setdefault(key, name) != name:
            aliases[name] = first[key]
    return aliases


def _owned_names(
    tensors: Mapping[str, Tensor], aliases: Mapping[str, str], selected: Mapping[str, str]
) -> dict[str, str]:
    """The aliases, such that each tensor is owned under its first name that a group selects."""
    chosen: dict[str, str] = {}
    for name in tensors:
        if name in selected:
            chosen.setdefault(aliases.get(name, name), name)
    owners = {name: chosen.get(aliases.get(name, name), aliases.get(name, name)) for name in tensors}
    return {name: owner for name, owner in owners.items() if owner != name}


def _by_child(tensors: Mapping[str, Tensor], aliases: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """One group for each direct child; a child whose every tensor is tied to an earlier child's owns nothing."""
    groups: dict[str, tuple[str, ...]] = {}
    for name in tensors:
        child, dot, _ = name.partition(".")
        if name in aliases or (dot and f"{child}." in groups.get(child, ())):
            continue
        key, prefix = (child, f"{child}.") if dot else (REST, name)
        groups[key] = (*groups.get(key, ()), prefix)
    return groups


def _checked_prefixes(groups: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The groups as tuples, after a look at names and types."""
    if not groups:
        raise ConfigError("the module groups are empty; at least one group with a prefix is needed")
    spelled: dict[str, str] = {}
    for name, prefixes in groups.items():
        if (other := spelled.setdefault(name.lower(), name)) != name:
            raise ConfigError(
                f"module groups {other} and {name} differ only in case and would be one file on some disks; rename one"
            )
        if not _PLAIN_NAME.fullmatch(name):
            raise ConfigError(f"module group {name!r} cannot name a file; letters, digits, '_' and '-' are allowed")
        if isinstance(prefixes, str) or not all(isinstance(prefix, str) for prefix in prefixes):
            raise ConfigError(
                f"module group {name} has {prefixes!r}; a list of prefixes such as ['backbone.'] is needed"
            )
        if not prefixes:
            raise ConfigError(f"module group {name} has no prefix; at least one such as 'backbone.' is needed")
    return {name: tuple(prefixes) for name, prefixes in groups.items()}


def _selected(tensors: Mapping[str, Tensor], prefixes: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Name -> the one group that selects it."""
    selected: dict[str, str] = {}
    twice: dict[str, tuple[str, str]] = {}
    for group, wanted in prefixes.items():
        for prefix in wanted:
            stem = prefix.removesuffix(".")
            names = [name for name in tensors if name.startswith(f"{stem}.") or name == prefix]
            if not names or not stem:
                raise ConfigError(
                    f"module group {group}: prefix {prefix!r} matches no parameter and no buffer; "
                    f"{_nearest(stem, _places(tensors, stem))}"
                )
            for name in names:
                if selected.setdefault(name, group) != group:
                    twice.setdefault(name, (selected[name], group))
    if twice:
        pairs = sorted(set(twice.values()))
        raise ConfigError(
            f"{_listed(list(twice))} in two module groups ({'; '.join(' and '.join(pair) for pair in pairs)}); "
            "each tensor belongs to exactly one"
        )
    return selected


def _check_members(
    members: Mapping[str, tuple[str, ...]], aliases: Mapping[str, str], selected: Mapping[str, str]
) -> None:
    """A group whose tensors are all tied to another group's would be a choice about nothing."""
    for group, names in members.items():
        if not names:
            ties = [f"{name} is {owner}" for name, owner in aliases.items() if selected.get(name) == group]
            raise ConfigError(
                f"module group {group} owns no tensor, for all it selects are tied to another group's "
                f"({', '.join(ties[:_NAMED_IN_A_SENTENCE])}); leave the group out"
            )


def _check_overlaps(tensors: Mapping[str, Tensor], aliases: Mapping[str, str], selected: Mapping[str, str]) -> None:
    """Two views of one memory in different forms, such as a transposed tie, must not come from two epochs."""
    places = []
    for name, tensor in tensors.items():
        if name not in aliases and tensor.numel() and not tensor.is_meta:
            extent = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
            start = tensor.data_ptr()
            places.append((str(tensor.device), start, start + extent * tensor.element_size(), name))
    places.sort()
    reach: tuple[str, int, str] = ("", 0, "")
    for device, start, end, name in places:
        if device == reach[0] and start < reach[1] and selected[name] != selected[reach[2]]:
            raise ConfigError(
                f"{reach[2]} of module group {selected[reach[2]]} and {name} of {selected[name]} share memory in "
                "different forms; put both in one group"
            )
        if device != reach[0] or end > reach[1]:
            reach = (device, end, name)


def _callable_names(submodules: Mapping[str, nn.Module], name: str) -> list[str]:
    """The submodule of that name, or in place of a list or dict of modules its elements that have tensors."""
    if name not in submodules:
        return []
    submodule = submodules[name]
    if not isinstance(submodule, nn.ModuleList | nn.ModuleDict):
        return [name]
    children = [child for child, part in submodule.named_children() if part.state_dict()]
    return [deeper for child in children for deeper in _callable_names(submodules, f"{name}.{child}")]


def _places(tensors: Mapping[str, Tensor], stem: str) -> list[str]:
    """Names that could have been meant: those of modules and tensors, as deep as the prefix."""
    depth = stem.count(".") + 1
    return list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in tensors))


def _nearest(name: str, candidates: list[str]) -> str:
    """The names that look most like a wrong one, or the first few."""
    close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.5)
    return f"nearest: {', '.join(close)}" if close else f"there are {', '.join(candidates[:_NAMED_IN_A_SENTENCE])}"


def _listed(names: list[str]) -> str:
    """A few names with the verb that fits, as the beginning of a sentence."""
    shown = ", ".join(names[:_NAMED_IN_A_SENTENCE])
    if len(names) > _NAMED_IN_A_SENTENCE:
        shown += f" and {len(names) - _NAMED_IN_A_SENTENCE} more"
    return f"{shown} {'is' if len(names) == 1 else 'are'}"
