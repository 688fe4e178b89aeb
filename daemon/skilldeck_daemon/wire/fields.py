"""Reading a JSON object field by field, so that every refusal names the field and says what would be right.

A field that is absent or null reads as the default unless `required`. Values are never converted: a number in quotes
is a mistake of the client's that it should hear of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from skilldeck_daemon.store.ids import new_id, storable
from skilldeck_shared.characters import clean
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject


def refuse(param: str, message: str, hint: str = "", code: str | None = None) -> NoReturn:
    """Raise the BadRequest of one field."""
    raise BadRequest(message, hint, param=param, code=code)


def kind(value: Any) -> str:
    """What a JSON value is, in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


class Fields:
    """One JSON object at `path` (`tools[0].environment`; empty for the body itself)."""

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            where = f"'{path}'" if path else "The request body"
            raise BadRequest(f"{where} must be an object, not {kind(value)}.", param=path or None, code="invalid_type")
        self.value: JsonObject = value
        self.path = path

    def name(self, field: str) -> str:
        """The full name of a field of this object."""
        return f"{self.path}.{field}" if self.path else field

    def _get(self, field: str, required: bool) -> Any:
        value = self.value.get(field)
        if value is None and required:
            refuse(
                self.name(field),
                f"Missing required parameter: '{self.name(field)}'.",
                code="missing_required_parameter",
            )
        return value

    def _wrong(self, field: str, expected: str, value: Any) -> NoReturn:
        refuse(self.name(field), f"'{self.name(field)}' must be {expected}, not {kind(value)}.", code="invalid_type")

    def string(
        self,
        field: str,
        *,
        required: bool = False,
        choices: Sequence[str] = (),
        minimum: int = 0,
        maximum: int | None = None,
    ) -> str | None:
        """A string; lengths in characters."""
        value = self._get(field, required)
        if value is None:
            return None
        if not isinstance(value, str):
            self._wrong(field, "a string", value)
        name = self.name(field)
        if choices and value not in choices:
            refuse(name, f"'{name}' is {value[:64]!r}.", f"Use one of: {', '.join(choices)}.", "invalid_value")
        if len(value) < minimum:
            refuse(name, f"'{name}' must have at least {minimum} characters.", code="string_below_min_length")
        if maximum is not None and len(value) > maximum:
            refuse(
                name,
                f"'{name}' has {len(value)} characters.",
                f"At most {maximum} are allowed.",
                "string_above_max_length",
            )
        return clean(value)

    def needed(self, field: str, *, choices: Sequence[str] = (), minimum: int = 1, maximum: int | None = None) -> str:
        """A string that must be there."""
        value = self.string(field, required=True, choices=choices, minimum=minimum, maximum=maximum)
        assert value is not None
        return value

    def integer(
        self, field: str, *, required: bool = False, minimum: int | None = None, maximum: int | None = None
    ) -> int | None:
        value = self._get(field, required)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong(field, "an integer", value)
        self._range(field, value, minimum, maximum)
        return value

    def number(self, field: str, *, required: bool = False, minimum: float, maximum: float) -> float | None:
        value = self._get(field, required)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(field, "a number", value)
        self._range(field, value, minimum, maximum)
        return value

    def _range(self, field: str, value: float, minimum: float | None, maximum: float | None) -> None:
        name = self.name(field)
        # `not >=` rather than `<`: NaN is below every minimum.
        if minimum is not None and not value >= minimum:
            refuse(name, f"'{name}' is {value}.", f"It must be at least {minimum}.", "integer_below_min_value")
        if maximum is not None and not value <= maximum:
            refuse(name, f"'{name}' is {value}.", f"It must be at most {maximum}.", "integer_above_max_value")

    def boolean(self, field: str, default: bool = False) -> bool:
        value = self._get(field, False)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._wrong(field, "a boolean", value)
        return value

    def object(self, field: str, *, required: bool = False) -> Fields | None:
        value = self._get(field, required)
        return None if value is None else Fields(value, self.name(field))

    def array(self, field: str, *, required: bool = False, minimum: int = 0, maximum: int | None = None) -> list[Any]:
        """A list (empty when absent); lengths in entries."""
        value = self._get(field, required)
        if value is None:
            return []
        if not isinstance(value, list):
            self._wrong(field, "an array", value)
        name = self.name(field)
        if len(value) < minimum:
            refuse(name, f"'{name}' must have at least {minimum} entries.", code="array_below_min_length")
        if maximum is not None and len(value) > maximum:
            refuse(
                name, f"'{name}' has {len(value)} entries.", f"At most {maximum} are allowed.", "array_above_max_length"
            )
        return value

    def objects(
        self, field: str, *, required: bool = False, minimum: int = 0, maximum: int | None = None
    ) -> list[Fields]:
        """A list of objects, each ready to be read."""
        values = self.array(field, required=required, minimum=minimum, maximum=maximum)
        return [Fields(value, f"{self.name(field)}[{index}]") for index, value in enumerate(values)]

    def strings(self, field: str, *, required: bool = False, minimum: int = 0, maximum: int | None = None) -> list[str]:
        values = self.array(field, required=required, minimum=minimum, maximum=maximum)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                self._wrong(f"{field}[{index}]", "a string", value)
        return [clean(value) for value in values]

    def integers(self, field: str, *, minimum: int, maximum: int) -> list[int]:
        values = self.array(field)
        for index, value in enumerate(values):
            place = f"{field}[{index}]"
            if isinstance(value, bool) or not isinstance(value, int):
                self._wrong(place, "an integer", value)
            self._range(place, value, minimum, maximum)
        return values

    def refuse(self, *fields: str, why: str) -> None:
        """Refuse fields that this server cannot honour; null, false and empty mean "not asked for"."""
        for field in fields:
            if self.value.get(field) not in (None, False, [], {}, ""):
                refuse(self.name(field), f"'{self.name(field)}' is not supported.", why, "unsupported_parameter")


def refuse_foreign(fields: Fields, foreign: Mapping[str, str], *, one_answer: bool = True) -> None:
    """Refuse fields of another API that mean something here: `foreign` maps each to this API's name for it.

    `one_answer`: this API has no `n`.
    """
    for field, own in foreign.items():
        fields.refuse(field, why=f"It is called {own!r} in this API.")
    if one_answer and fields.value.get("n") not in (None, 1):
        refuse("n", "'n' is not supported.", "One request has one answer here; send several.", "unsupported_parameter")


def item_id(fields: Fields, prefix: str) -> str:
    """An input item's own id, or a new one."""
    id = fields.string("id", maximum=256)
    if not id:
        return new_id(prefix)
    if not storable(id):
        hint = "Leave it out to get one."
        refuse(
            fields.name("id"), f"'{fields.name('id')}' must be of printable ASCII characters.", hint, "invalid_value"
        )
    return id


def metadata(fields: Fields) -> dict[str, str]:
    """OpenAI's metadata: at most 16 pairs, keys of 64 and values of 512 characters."""
    holder = fields.object("metadata")
    if holder is None:
        return {}
    if len(holder.value) > 16:
        refuse(holder.path, f"'{holder.path}' has {len(holder.value)} pairs.", "At most 16 are allowed.")
    for key in holder.value:
        if len(key) > 64:
            refuse(holder.path, f"A key of '{holder.path}' has {len(key)} characters.", "At most 64 are allowed.")
        if holder.string(key, maximum=512) is None:
            refuse(holder.name(key), f"'{holder.name(key)}' must be a string, not null.", code="invalid_type")
    return {clean(key): clean(value) for key, value in holder.value.items()}
