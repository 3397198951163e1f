"""Triton's config.pbtxt, read by protobuf: the part of its ModelConfig that a repository of ours
uses. A field that it doesn't have, or of another type, is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

__all__ = ["read_config"]


ENUMS = {
    "DataType": ["TYPE_INVALID", "TYPE_FP16", "TYPE_FP32", "TYPE_INT32", "TYPE_INT64"],
    "Kind": ["KIND_AUTO", "KIND_CPU", "KIND_GPU"],
    "TimeoutAction": ["REJECT", "DELAY"],
}
# message → field → type; * before it: repeated
MESSAGES = {
    "Tensor": {"name": "string", "data_type": "DataType", "dims": "*int64"},
    "StringPair": {"key": "string", "value": "string"},
    "Parameter": {"string_value": "string"},
    "ParameterPair": {"key": "string", "value": "Parameter"},
    "QueuePolicy": {
        "timeout_action": "TimeoutAction",
        "default_timeout_microseconds": "uint64",
        "max_queue_size": "uint32",
    },
    "DynamicBatching": {
        "preferred_batch_size": "*int32",
        "max_queue_delay_microseconds": "uint64",
        "default_queue_policy": "QueuePolicy",
    },
    "InstanceGroup": {"kind": "Kind", "count": "int32"},
    "Accelerator": {"name": "string", "parameters": "*StringPair"},
    "Accelerators": {"gpu_execution_accelerator": "*Accelerator"},
    "Optimization": {"execution_accelerators": "Accelerators"},
    "Step": {
        "model_name": "string",
        "model_version": "int64",
        "input_map": "*StringPair",
        "output_map": "*StringPair",
    },
    "Ensemble": {"step": "*Step"},
    "ModelConfig": {
        "name": "string",
        "platform": "string",
        "backend": "string",
        "max_batch_size": "int32",
        "input": "*Tensor",
        "output": "*Tensor",
        "dynamic_batching": "DynamicBatching",
        "instance_group": "*InstanceGroup",
        "optimization": "Optimization",
        "parameters": "*ParameterPair",
        "ensemble_scheduling": "Ensemble",
    },
}


def _model_config() -> type[Message]:
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="t")
    for enum, values in ENUMS.items():
        added = file.enum_type.add(name=enum)
        for number, value in enumerate(values):
            added.value.add(name=value, number=number)
    for message, fields in MESSAGES.items():
        added = file.message_type.add(name=message)
        for number, (name, declared) in enumerate(fields.items(), 1):
            field = added.field.add(name=name, number=number)
            repeated, kind = declared.startswith("*"), declared.removeprefix("*")
            field.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if kind in ENUMS or kind in MESSAGES:
                field.type_name = f".t.{kind}"
                field.type = field_type.TYPE_ENUM if kind in ENUMS else field_type.TYPE_MESSAGE
            else:
                field.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    model_config: type[Any] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("t.ModelConfig")
    )
    return model_config


MODEL_CONFIG = _model_config()


def read_config(path: Path) -> dict[str, Any]:
    """The fields that are set, as dictionaries; repeated ones are lists, enums their names."""
    return _as_dict(text_format.Parse(path.read_text(encoding="utf-8"), MODEL_CONFIG()))


def _as_dict(message: Message) -> dict[str, Any]:
    read = {}
    for field, value in message.ListFields():
        repeated = MESSAGES[message.DESCRIPTOR.name][field.name].startswith("*")
        values = list(value) if repeated else [value]
        if field.enum_type is not None:
            values = [field.enum_type.values_by_number[number].name for number in values]
        elif field.message_type is not None:
            values = [_as_dict(item) for item in values]
        read[field.name] = values if repeated else values[0]
    return read
