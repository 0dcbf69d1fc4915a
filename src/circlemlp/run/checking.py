"""Checks what Hydra composed: a ``Config``, or one line about the first mistake.

The line names the key, the value, what is allowed and, for an unknown key, the nearest known one.
"""

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from circlemlp.config import Config
from circlemlp.errors import ConfigError
from circlemlp.project import CONF

CHOOSING = {name for name, field in Config.model_fields.items() if field.discriminator}
"""The sections in which the value of one key says which others there are."""
KINDS = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "a text"}
LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
}


def parse(values: Mapping[str, Any]) -> Config:
    """Turn a composed tree of plain values into a checked configuration.

    Raises
    ------
    ConfigError
        Naming the first offending key.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


@cache
def known_keys() -> dict[str, dict[str, Any]]:
    """Return every key, dotted, with the JSON schema of its values."""
    schema, keys = Config.model_json_schema(), dict[str, dict[str, Any]]()

    def add(section: dict[str, Any], prefix: str) -> None:
        for name, field in section["properties"].items():
            for one in field.get("oneOf", [field]):
                if "$ref" in one:
                    add(schema["$defs"][one["$ref"].rpartition("/")[2]], f"{prefix}{name}.")
                else:
                    keys[prefix + name] = one
            if choice := field.get("discriminator"):
                keys[f"{prefix}{name}.{choice['propertyName']}"] = {"enum": list(choice["mapping"])}

    add(schema, "")
    return keys


@cache
def choices(key: str) -> tuple[str, ...]:
    """Return the choices of a group of conf/; nothing for other keys."""
    return tuple(sorted(path.stem for path in (CONF / key).glob("*.yaml"))) if key else ()


def unknown_key(key: str, value: object) -> ConfigError:
    """Return the error for a key that does not exist, with the nearest key or group that does."""
    keys = known_keys()
    if key in keys:
        return ConfigError(f"{key}={_show(value)}: the chosen {key.split('.')[0]} has no such key")
    groups = [path.name for path in CONF.iterdir() if choices(path.name)]
    nearest = difflib.get_close_matches(key, [*groups, *keys], n=1, cutoff=0.0)[0]
    return ConfigError(
        f"{key}={_show(value)}: there is no such key; the nearest known key is {nearest} ({allowed(nearest)})"
    )


def allowed(key: str) -> str:
    """Say in words what a known key or group may be."""
    return _in_words(known_keys().get(key) or {"enum": choices(key)})


def _in_words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return f"null, or {_in_words(schema['anyOf'][0])}"
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if "items" in schema:
        return f"a list of one or more, each of them {_in_words(schema['items'])}"
    limits = " and ".join(f"{words} {schema[name]:_}" for name, words in LIMITS.items() if name in schema)
    return " ".join([schema.get("description") or KINDS[schema["type"]], limits]).strip()


def _show(value: object) -> str:
    text = "null" if value is None else str(value).replace(" ", "")
    return text if text.isprintable() else ascii(text)[1:-1]


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    path, value = list(first["loc"]), _show(first["input"])
    if CHOOSING.intersection(path[:1]):
        del path[1:2]  # the choice
    key = ".".join(part for part in path if isinstance(part, str))
    match first["type"]:
        case "extra_forbidden":
            return str(unknown_key(key, first["input"]))
        case "value_error":
            reason = str(first["ctx"]["error"])
            return f"{key}={value}: {reason}" if key in known_keys() else reason
        case "string_unicode":
            return f"{key}: has bytes that are not UTF-8"
        case "missing":
            return f"{key}: is missing; allowed: {allowed(key) if key in known_keys() else 'a section'}"
        case "union_tag_invalid" | "union_tag_not_found":
            chooser = first["ctx"]["discriminator"].strip("'")
            key, value = f"{key}.{chooser}", _show(first["input"].get(chooser))
    if key not in known_keys():
        return f"{key}={value}: must be a section of keys"
    item = "".join(f"[{part}]" for part in path if isinstance(part, int))
    may_be = allowed(key).rpartition("each of them ")[2] if item else allowed(key)
    return f"{key}{item}={value}: must be {may_be}"
