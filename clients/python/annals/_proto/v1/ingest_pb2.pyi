import datetime

from annals._proto.v1 import common_pb2 as _common_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AppendRequest(_message.Message):
    __slots__ = ("events", "guards", "cursors", "log_id")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    GUARDS_FIELD_NUMBER: _ClassVar[int]
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_common_pb2.NewEvent]
    guards: _containers.RepeatedCompositeFieldContainer[_common_pb2.Guard]
    cursors: _containers.RepeatedCompositeFieldContainer[_common_pb2.CursorRecord]
    log_id: str
    def __init__(self, events: _Optional[_Iterable[_Union[_common_pb2.NewEvent, _Mapping]]] = ..., guards: _Optional[_Iterable[_Union[_common_pb2.Guard, _Mapping]]] = ..., cursors: _Optional[_Iterable[_Union[_common_pb2.CursorRecord, _Mapping]]] = ..., log_id: _Optional[str] = ...) -> None: ...

class AppendResponse(_message.Message):
    __slots__ = ("first_position", "last_position", "recorded_at", "duplicate", "versions", "event_ids", "log_id")
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    EVENT_IDS_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    first_position: int
    last_position: int
    recorded_at: _timestamp_pb2.Timestamp
    duplicate: bool
    versions: _containers.RepeatedScalarFieldContainer[int]
    event_ids: _containers.RepeatedScalarFieldContainer[str]
    log_id: str
    def __init__(self, first_position: _Optional[int] = ..., last_position: _Optional[int] = ..., recorded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duplicate: bool = ..., versions: _Optional[_Iterable[int]] = ..., event_ids: _Optional[_Iterable[str]] = ..., log_id: _Optional[str] = ...) -> None: ...

class AppendStreamRequest(_message.Message):
    __slots__ = ("request_id", "append")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    append: AppendRequest
    def __init__(self, request_id: _Optional[int] = ..., append: _Optional[_Union[AppendRequest, _Mapping]] = ...) -> None: ...

class AppendStreamResponse(_message.Message):
    __slots__ = ("request_id", "result", "status")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    result: AppendResponse
    status: _status_pb2.Status
    def __init__(self, request_id: _Optional[int] = ..., result: _Optional[_Union[AppendResponse, _Mapping]] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
