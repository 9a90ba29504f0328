import datetime

from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NewEvent(_message.Message):
    __slots__ = ("event_id", "entity_id", "event_type", "payload", "metadata", "tags", "occurred_at")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    entity_id: str
    event_type: str
    payload: str
    metadata: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    occurred_at: _timestamp_pb2.Timestamp
    def __init__(self, event_id: _Optional[str] = ..., entity_id: _Optional[str] = ..., event_type: _Optional[str] = ..., payload: _Optional[str] = ..., metadata: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("position", "entity_id", "version", "event_type", "event_id", "recorded_at", "occurred_at", "payload", "metadata", "tags")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    position: int
    entity_id: str
    version: int
    event_type: str
    event_id: str
    recorded_at: _timestamp_pb2.Timestamp
    occurred_at: _timestamp_pb2.Timestamp
    payload: str
    metadata: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, position: _Optional[int] = ..., entity_id: _Optional[str] = ..., version: _Optional[int] = ..., event_type: _Optional[str] = ..., event_id: _Optional[str] = ..., recorded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., payload: _Optional[str] = ..., metadata: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class Guard(_message.Message):
    __slots__ = ("entity", "no_match")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    NO_MATCH_FIELD_NUMBER: _ClassVar[int]
    entity: EntityGuard
    no_match: NoMatchGuard
    def __init__(self, entity: _Optional[_Union[EntityGuard, _Mapping]] = ..., no_match: _Optional[_Union[NoMatchGuard, _Mapping]] = ...) -> None: ...

class EntityGuard(_message.Message):
    __slots__ = ("entity_id", "any", "absent", "exists", "version")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    any: _empty_pb2.Empty
    absent: _empty_pb2.Empty
    exists: _empty_pb2.Empty
    version: int
    def __init__(self, entity_id: _Optional[str] = ..., any: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., absent: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., exists: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class NoMatchGuard(_message.Message):
    __slots__ = ("query", "after")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    query: EventQuery
    after: int
    def __init__(self, query: _Optional[_Union[EventQuery, _Mapping]] = ..., after: _Optional[int] = ...) -> None: ...

class EventQuery(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[EventQueryItem]
    def __init__(self, items: _Optional[_Iterable[_Union[EventQueryItem, _Mapping]]] = ...) -> None: ...

class EventQueryItem(_message.Message):
    __slots__ = ("event_types", "tags")
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, event_types: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class CursorRecord(_message.Message):
    __slots__ = ("name", "position", "expected")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    position: int
    expected: int
    def __init__(self, name: _Optional[str] = ..., position: _Optional[int] = ..., expected: _Optional[int] = ...) -> None: ...

class EventFilter(_message.Message):
    __slots__ = ("entity_ids", "event_types", "event_type_prefix", "tags", "partitions", "query", "after", "through", "recorded", "occurred")
    ENTITY_IDS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_PREFIX_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_FIELD_NUMBER: _ClassVar[int]
    entity_ids: _containers.RepeatedScalarFieldContainer[str]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    event_type_prefix: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    partitions: _containers.RepeatedScalarFieldContainer[int]
    query: EventQuery
    after: int
    through: int
    recorded: TimeRange
    occurred: TimeRange
    def __init__(self, entity_ids: _Optional[_Iterable[str]] = ..., event_types: _Optional[_Iterable[str]] = ..., event_type_prefix: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., partitions: _Optional[_Iterable[int]] = ..., query: _Optional[_Union[EventQuery, _Mapping]] = ..., after: _Optional[int] = ..., through: _Optional[int] = ..., recorded: _Optional[_Union[TimeRange, _Mapping]] = ..., occurred: _Optional[_Union[TimeRange, _Mapping]] = ...) -> None: ...

class TimeRange(_message.Message):
    __slots__ = ("since", "until")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    def __init__(self, since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AsOf(_message.Message):
    __slots__ = ("version", "position", "recorded_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    version: int
    position: int
    recorded_at: _timestamp_pb2.Timestamp
    def __init__(self, version: _Optional[int] = ..., position: _Optional[int] = ..., recorded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GuardFailure(_message.Message):
    __slots__ = ("index", "entity", "no_match", "cursor")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    NO_MATCH_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    index: int
    entity: EntityGuardFailure
    no_match: NoMatchGuardFailure
    cursor: CursorFailure
    def __init__(self, index: _Optional[int] = ..., entity: _Optional[_Union[EntityGuardFailure, _Mapping]] = ..., no_match: _Optional[_Union[NoMatchGuardFailure, _Mapping]] = ..., cursor: _Optional[_Union[CursorFailure, _Mapping]] = ...) -> None: ...

class EntityGuardFailure(_message.Message):
    __slots__ = ("expected", "found_version")
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    FOUND_VERSION_FIELD_NUMBER: _ClassVar[int]
    expected: EntityGuard
    found_version: int
    def __init__(self, expected: _Optional[_Union[EntityGuard, _Mapping]] = ..., found_version: _Optional[int] = ...) -> None: ...

class NoMatchGuardFailure(_message.Message):
    __slots__ = ("found_position",)
    FOUND_POSITION_FIELD_NUMBER: _ClassVar[int]
    found_position: int
    def __init__(self, found_position: _Optional[int] = ...) -> None: ...

class CursorFailure(_message.Message):
    __slots__ = ("name", "expected", "found")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    name: str
    expected: int
    found: int
    def __init__(self, name: _Optional[str] = ..., expected: _Optional[int] = ..., found: _Optional[int] = ...) -> None: ...
