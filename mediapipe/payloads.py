"""How values travel to Temporal and back: as the SDK has them, without what it does anew for each of them.

A quarter of the processor that a job’s workflow took went there. It knows the SDK alone.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, get_type_hints

from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
    JSONTypeConverter,
    StorageDriverStoreContext,
    value_to_type,
)
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass' fields: the SDK compiles their annotations for each value that it reads."""
    return get_type_hints(cls)


class Dataclasses(JSONTypeConverter):
    """Reads a dataclass as the SDK does: unknown fields are ignored, a missing one has its default."""

    def to_typed_value(self, hint: type, value: Any) -> Any:
        """The value of that type. Raises TypeError where it isn't one."""
        if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
            return JSONTypeConverter.Unhandled
        if not isinstance(value, dict):
            raise TypeError(f"{hint} is no {type(value)}")
        hints = _hints(hint)
        names = [field.name for field in dataclasses.fields(hint) if field.init and field.name in value]
        return hint(**{name: value_to_type(hints[name], value[name], [self]) for name in names})


class PayloadConverter(CompositePayloadConverter):
    """The SDK's own, with dataclasses read so."""

    def __init__(self) -> None:
        known = DefaultPayloadConverter.default_encoding_payload_converters
        plain = JSONPlainPayloadConverter(custom_type_converters=[Dataclasses()])
        super().__init__(*(plain if each.encoding == plain.encoding else each for each in known))


DATA_CONVERTER = DataConverter(payload_converter_class=PayloadConverter)


def _no_context(command_info: object) -> None:
    return None


def _no_store(command_info: object) -> StorageDriverStoreContext:
    return StorageDriverStoreContext(target=None)


class WorkflowRunner(SandboxedWorkflowRunner):
    """The SDK's sandbox, which isn't entered twice for each payload to ask what it belongs to.

    That is for converters that read a value by its place, and for stores of large ones; ours has neither.
    """

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """As the SDK's."""
        instance = super().create_instance(det)
        instance.get_serialization_context = _no_context  # type: ignore[method-assign]
        instance.get_external_store_context = _no_store  # type: ignore[method-assign]
        return instance
