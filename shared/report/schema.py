"""The form of report.json, and an error that names the place where a report departs from it."""

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from shared.errors import DataError

SCHEMA_VERSION = 1
"""Value of the key `schema` in report.json."""


@cache
def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of report.json."""
    content: dict[str, Any] = json.loads((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))
    return content


@cache
def _validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(report_schema())
    return Draft202012Validator(report_schema())


def validate_report(report: Mapping[str, Any]) -> None:
    """Check a report against the schema, before it is written or after it was read.

    Raises:
        DataError: Naming the JSON path of the first departure, what was found there and what is allowed.
    """
    for path, number in _not_finite(report, "$"):
        raise DataError(f"report.json at {path}: found {number}; allowed is a finite number, or null where undefined.")
    errors = sorted(_validator().iter_errors(report), key=lambda error: [str(part) for part in error.absolute_path])
    if errors:
        more = f" ({len(errors) - 1} more like this)" if len(errors) > 1 else ""
        raise DataError(f"report.json at {errors[0].json_path}: {_explain(errors[0])}{more}.")


def _not_finite(node: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield the paths of NaN and infinity: JSON has neither, and JSON Schema takes both for numbers."""
    if isinstance(node, float) and not math.isfinite(node):
        yield path, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _not_finite(value, f"{path}.{key}")
    elif isinstance(node, (list, tuple)):
        for position, value in enumerate(node):
            yield from _not_finite(value, f"{path}[{position}]")


def _explain(error: ValidationError) -> str:
    """Say what was found and what is allowed, in words, for the keywords that the schema uses."""
    found = f"found {_shorten(error.instance)} ({type(error.instance).__name__})"
    instance: Any = error.instance
    wanted: Any = error.validator_value
    if not isinstance(error.schema, Mapping):
        return error.message
    match error.validator:
        case "additionalProperties":
            known = error.schema.get("properties", {})
            unknown = [repr(key) for key in instance if key not in known]
            return f"found the unknown key {', '.join(unknown)}; allowed are {', '.join(known)}"
        case "required":
            missing = [repr(key) for key in wanted if key not in instance]
            return f"the key {', '.join(missing)} is missing; required are {', '.join(wanted)}"
        case "type":
            return f"{found}; allowed is {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"
        case "enum":
            return f"{found}; allowed are {', '.join(map(str, wanted))}"
        case "const":
            return f"{found}; allowed is {wanted!r}"
        case "pattern":
            return f"{found}; allowed is text that matches {wanted}"
        case "minimum" | "maximum":
            return f"{found}; allowed is a {error.validator} of {wanted}"
        case "anyOf":
            names = [str(name) for form in wanted for name in form.get("enum", ())]
            patterns = [f"text that matches {form['pattern']}" for form in wanted if "pattern" in form]
            return f"{found}; allowed are {', '.join([*names, *patterns])}"
        case "minLength":
            return f"{found}; allowed is text of at least {wanted} character"
    return error.message


def _shorten(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
