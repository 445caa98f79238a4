"""The root of every message: frozen, no unknown key, and of the lowest version that can say it.

Version 1 is what the first readers know.  A class names its younger fields in `younger`, with the
version that brought them; a message in which they all have their defaults is written without them
and is of version 1.  So readers are replaced before writers, one process at a time, and nothing
breaks until somebody asks for what an old reader cannot do; then its error says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
)

SCHEMA_VERSION = 2
"""The highest version that this program reads and writes."""


def _forgotten(_version: int) -> Literal[1]:
    """In memory no message has a version: two that say the same are equal."""
    return 1


Version = Annotated[Literal[1, 2], AfterValidator(_forgotten)]


class Contract(BaseModel):
    """Root of every message.

    Attributes
    ----------
    younger : mapping of str to int
        Fields that version 1 does not have, and the version that brought each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    younger: ClassVar[Mapping[str, int]] = {}
    schema_version: Version = 1

    @model_serializer(mode="wrap")
    def _in_lowest_version(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = write(self)
        if not self.younger:
            return said
        fields = type(self).model_fields
        unsaid = {
            name
            for name in self.younger
            if getattr(self, name) == fields[name].get_default(call_default_factory=True)
        }
        needed = [version for name, version in self.younger.items() if name not in unsaid]
        if "schema_version" in said:
            said["schema_version"] = max(needed, default=1)
        return {name: value for name, value in said.items() if name not in unsaid}
