"""The one door to Hydra's `instantiate`: only our own classes, Lightning's and nothing else, with checked arguments."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from shared.errors import ConfigError, RunInterrupted

ALLOWED_PREFIXES = ("projects.", "shared.", "lightning.")


def instantiate(config: Mapping[str, Any], where: str, **arguments: Any) -> Any:
    """Build the object that a config node describes.

    Args:
        config: Plain mapping with `_target_` and constructor arguments.
        where: Path of the node in the configuration, for messages, e.g. "model".
        arguments: Arguments that the engine adds (not to be set in the configuration).

    Raises:
        ConfigError: If the target is not allowed or does not exist, or a key is not an argument of its constructor.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    from shared.errors import UserError

    target = resolve_target(config, where)
    check_arguments(config, where, target, tuple(arguments))
    try:
        return hydra_instantiate(dict(config), **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        if isinstance(error.__cause__, ValueError | TypeError):
            raise ConfigError(f"{where}: {error.__cause__}") from error
        raise


def resolve_target(config: Mapping[str, Any], where: str) -> Any:
    """The class or function that `_target_` names.

    Raises:
        ConfigError: If it is missing, not below an allowed package, or cannot be imported.
        RunInterrupted: A signal came while it was imported.
    """
    from hydra.utils import get_object

    path = config.get("_target_")
    if not isinstance(path, str) or not path.startswith(ALLOWED_PREFIXES):
        raise ConfigError(f"{where}._target_ is {path!r}; it must begin with one of {', '.join(ALLOWED_PREFIXES)}")
    try:
        return get_object(path)
    except Exception as error:  # Hydra wraps import errors of every kind
        stop = _interruption(error)
        if stop is not None:
            raise stop from error
        raise ConfigError(f"{where}._target_ {path!r} cannot be imported: {error}") from error


def _interruption(error: BaseException | None) -> RunInterrupted | None:
    """The stop by a signal that an error came from: its handler raises wherever the process is, in an import too."""
    while error is not None and not isinstance(error, RunInterrupted):
        error = error.__cause__ or error.__context__
    return error


def check_arguments(config: Mapping[str, Any], where: str, target: Any, given: tuple[str, ...]) -> None:
    """Refuse a key that the target's constructor does not take, naming the nearest one that it does."""
    known = set(constructor_arguments(target))
    for key in config:
        if key.startswith("_") and key.endswith("_"):
            continue
        if key in given:
            raise ConfigError(f"{where}.{key} is set by the engine and cannot be configured")
        if key not in known:
            raise ConfigError(unknown_key(f"{where}.{key}", [f"{where}.{name}" for name in sorted(known - set(given))]))


def constructor_arguments(target: Any) -> list[str]:
    """Names that a constructor takes; a `**more` is followed to the base classes, as Lightning's own classes do."""
    names: list[str] = []
    for base in inspect.getmro(target) if inspect.isclass(target) else (target,):
        if inspect.isclass(base) and "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__ if inspect.isclass(base) else base).parameters.values()
        names += [
            p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
        ]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names


def unknown_key(key: str, valid: list[str]) -> str:
    """One sentence for an unknown key, with the nearest valid one."""
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.0)
    hint = f"; the nearest is {near[0]}" if near else ""
    return f"unknown config key {key}{hint} (allowed here: {', '.join(name.rsplit('.', 1)[-1] for name in valid)})"
