import datetime

from annals._proto.v1 import analytics_pb2 as _analytics_pb2
from annals._proto.v1 import common_pb2 as _common_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_FORWARD: _ClassVar[Direction]
    DIRECTION_BACKWARD: _ClassVar[Direction]
DIRECTION_UNSPECIFIED: Direction
DIRECTION_FORWARD: Direction
DIRECTION_BACKWARD: Direction

class ReadEventsRequest(_message.Message):
    __slots__ = ("filter", "direction", "limit", "as_of", "log_id")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    filter: _common_pb2.EventFilter
    direction: Direction
    limit: int
    as_of: _common_pb2.AsOf
    log_id: str
    def __init__(self, filter: _Optional[_Union[_common_pb2.EventFilter, _Mapping]] = ..., direction: _Optional[_Union[Direction, str]] = ..., limit: _Optional[int] = ..., as_of: _Optional[_Union[_common_pb2.AsOf, _Mapping]] = ..., log_id: _Optional[str] = ...) -> None: ...

class ReadEventsResponse(_message.Message):
    __slots__ = ("batch", "head", "log_id")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    batch: _common_pb2.EventBatch
    head: int
    log_id: str
    def __init__(self, batch: _Optional[_Union[_common_pb2.EventBatch, _Mapping]] = ..., head: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...

class GetEventRequest(_message.Message):
    __slots__ = ("position", "event_id")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    position: int
    event_id: str
    def __init__(self, position: _Optional[int] = ..., event_id: _Optional[str] = ...) -> None: ...

class GetEventResponse(_message.Message):
    __slots__ = ("event", "head")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    event: _common_pb2.Event
    head: int
    def __init__(self, event: _Optional[_Union[_common_pb2.Event, _Mapping]] = ..., head: _Optional[int] = ...) -> None: ...

class GetEntityStateRequest(_message.Message):
    __slots__ = ("entity_id", "as_of")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    as_of: _common_pb2.AsOf
    def __init__(self, entity_id: _Optional[str] = ..., as_of: _Optional[_Union[_common_pb2.AsOf, _Mapping]] = ...) -> None: ...

class GetEntityStateResponse(_message.Message):
    __slots__ = ("entity_id", "version", "state", "position", "head", "recorded_at")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    version: int
    state: str
    position: int
    head: int
    recorded_at: _timestamp_pb2.Timestamp
    def __init__(self, entity_id: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[str] = ..., position: _Optional[int] = ..., head: _Optional[int] = ..., recorded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListEntitiesRequest(_message.Message):
    __slots__ = ("prefix", "page_size", "page_token")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    page_size: int
    page_token: str
    def __init__(self, prefix: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEntitiesResponse(_message.Message):
    __slots__ = ("entities", "next_page_token", "head")
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[EntitySummary]
    next_page_token: str
    head: int
    def __init__(self, entities: _Optional[_Iterable[_Union[EntitySummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., head: _Optional[int] = ...) -> None: ...

class EntitySummary(_message.Message):
    __slots__ = ("entity_id", "version", "first_position", "last_position")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    version: int
    first_position: int
    last_position: int
    def __init__(self, entity_id: _Optional[str] = ..., version: _Optional[int] = ..., first_position: _Optional[int] = ..., last_position: _Optional[int] = ...) -> None: ...

class ListEventTypesRequest(_message.Message):
    __slots__ = ("prefix", "page_size", "page_token")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    page_size: int
    page_token: str
    def __init__(self, prefix: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEventTypesResponse(_message.Message):
    __slots__ = ("event_types", "next_page_token", "head")
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    event_types: _containers.RepeatedCompositeFieldContainer[EventTypeSummary]
    next_page_token: str
    head: int
    def __init__(self, event_types: _Optional[_Iterable[_Union[EventTypeSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., head: _Optional[int] = ...) -> None: ...

class EventTypeSummary(_message.Message):
    __slots__ = ("event_type", "events", "first_position", "last_position")
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    event_type: str
    events: int
    first_position: int
    last_position: int
    def __init__(self, event_type: _Optional[str] = ..., events: _Optional[int] = ..., first_position: _Optional[int] = ..., last_position: _Optional[int] = ...) -> None: ...

class GetCursorRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetCursorResponse(_message.Message):
    __slots__ = ("name", "position", "log_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    position: int
    log_id: str
    def __init__(self, name: _Optional[str] = ..., position: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ("all_tenants",)
    ALL_TENANTS_FIELD_NUMBER: _ClassVar[int]
    all_tenants: bool
    def __init__(self, all_tenants: bool = ...) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("tenants", "process")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[TenantStats]
    process: ProcessStats
    def __init__(self, tenants: _Optional[_Iterable[_Union[TenantStats, _Mapping]]] = ..., process: _Optional[_Union[ProcessStats, _Mapping]] = ...) -> None: ...

class TenantStats(_message.Message):
    __slots__ = ("tenant", "log_id", "head", "floor", "entities", "event_types", "events_per_partition", "log_bytes", "log_files", "subscribers", "recorded_at", "poisoned", "sealed", "segments")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_PER_PARTITION_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOG_FILES_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    POISONED_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    log_id: str
    head: int
    floor: int
    entities: int
    event_types: int
    events_per_partition: _containers.RepeatedScalarFieldContainer[int]
    log_bytes: int
    log_files: int
    subscribers: int
    recorded_at: _timestamp_pb2.Timestamp
    poisoned: str
    sealed: int
    segments: int
    def __init__(self, tenant: _Optional[str] = ..., log_id: _Optional[str] = ..., head: _Optional[int] = ..., floor: _Optional[int] = ..., entities: _Optional[int] = ..., event_types: _Optional[int] = ..., events_per_partition: _Optional[_Iterable[int]] = ..., log_bytes: _Optional[int] = ..., log_files: _Optional[int] = ..., subscribers: _Optional[int] = ..., recorded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., poisoned: _Optional[str] = ..., sealed: _Optional[int] = ..., segments: _Optional[int] = ...) -> None: ...

class ProcessStats(_message.Message):
    __slots__ = ("version", "started_at", "resident_bytes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    version: str
    started_at: _timestamp_pb2.Timestamp
    resident_bytes: int
    def __init__(self, version: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., resident_bytes: _Optional[int] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("filter", "after", "head", "log_id")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    filter: _common_pb2.EventFilter
    after: int
    head: _empty_pb2.Empty
    log_id: str
    def __init__(self, filter: _Optional[_Union[_common_pb2.EventFilter, _Mapping]] = ..., after: _Optional[int] = ..., head: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., log_id: _Optional[str] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("events", "caught_up", "checkpoint")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_UP_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    events: _common_pb2.EventBatch
    caught_up: Checkpoint
    checkpoint: Checkpoint
    def __init__(self, events: _Optional[_Union[_common_pb2.EventBatch, _Mapping]] = ..., caught_up: _Optional[_Union[Checkpoint, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("position", "log_id")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    position: int
    log_id: str
    def __init__(self, position: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...
