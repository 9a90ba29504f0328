import datetime

from annals._proto.v1 import common_pb2 as _common_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventTime(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_TIME_UNSPECIFIED: _ClassVar[EventTime]
    EVENT_TIME_RECORDED: _ClassVar[EventTime]
    EVENT_TIME_OCCURRED: _ClassVar[EventTime]
EVENT_TIME_UNSPECIFIED: EventTime
EVENT_TIME_RECORDED: EventTime
EVENT_TIME_OCCURRED: EventTime

class GetEventFrequencyRequest(_message.Message):
    __slots__ = ("filter", "bucket", "time", "origin", "by_type", "by_entity", "top", "as_of")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    BY_TYPE_FIELD_NUMBER: _ClassVar[int]
    BY_ENTITY_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    filter: _common_pb2.EventFilter
    bucket: _duration_pb2.Duration
    time: EventTime
    origin: _timestamp_pb2.Timestamp
    by_type: bool
    by_entity: bool
    top: int
    as_of: _common_pb2.AsOf
    def __init__(self, filter: _Optional[_Union[_common_pb2.EventFilter, _Mapping]] = ..., bucket: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., time: _Optional[_Union[EventTime, str]] = ..., origin: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., by_type: bool = ..., by_entity: bool = ..., top: _Optional[int] = ..., as_of: _Optional[_Union[_common_pb2.AsOf, _Mapping]] = ...) -> None: ...

class GetEventFrequencyResponse(_message.Message):
    __slots__ = ("start", "bucket", "buckets", "series", "events", "events_without_time", "head", "log_id")
    START_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_WITHOUT_TIME_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    start: _timestamp_pb2.Timestamp
    bucket: _duration_pb2.Duration
    buckets: int
    series: _containers.RepeatedCompositeFieldContainer[EventSeries]
    events: int
    events_without_time: int
    head: int
    log_id: str
    def __init__(self, start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., bucket: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., buckets: _Optional[int] = ..., series: _Optional[_Iterable[_Union[EventSeries, _Mapping]]] = ..., events: _Optional[int] = ..., events_without_time: _Optional[int] = ..., head: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...

class EventSeries(_message.Message):
    __slots__ = ("event_type", "entity_id", "events", "counts")
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    event_type: str
    entity_id: str
    events: int
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, event_type: _Optional[str] = ..., entity_id: _Optional[str] = ..., events: _Optional[int] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class GetEventSummaryRequest(_message.Message):
    __slots__ = ("filter", "time", "by_type", "without_intervals", "as_of")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    BY_TYPE_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_INTERVALS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    filter: _common_pb2.EventFilter
    time: EventTime
    by_type: bool
    without_intervals: bool
    as_of: _common_pb2.AsOf
    def __init__(self, filter: _Optional[_Union[_common_pb2.EventFilter, _Mapping]] = ..., time: _Optional[_Union[EventTime, str]] = ..., by_type: bool = ..., without_intervals: bool = ..., as_of: _Optional[_Union[_common_pb2.AsOf, _Mapping]] = ...) -> None: ...

class GetEventSummaryResponse(_message.Message):
    __slots__ = ("total", "types", "head", "log_id")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    total: EventSummary
    types: _containers.RepeatedCompositeFieldContainer[EventSummary]
    head: int
    log_id: str
    def __init__(self, total: _Optional[_Union[EventSummary, _Mapping]] = ..., types: _Optional[_Iterable[_Union[EventSummary, _Mapping]]] = ..., head: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...

class EventSummary(_message.Message):
    __slots__ = ("event_type", "events", "entities", "event_types", "first_position", "last_position", "first_time", "last_time", "events_without_time", "intervals", "entity_intervals")
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    FIRST_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_TIME_FIELD_NUMBER: _ClassVar[int]
    EVENTS_WITHOUT_TIME_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    ENTITY_INTERVALS_FIELD_NUMBER: _ClassVar[int]
    event_type: str
    events: int
    entities: int
    event_types: int
    first_position: int
    last_position: int
    first_time: _timestamp_pb2.Timestamp
    last_time: _timestamp_pb2.Timestamp
    events_without_time: int
    intervals: Durations
    entity_intervals: Durations
    def __init__(self, event_type: _Optional[str] = ..., events: _Optional[int] = ..., entities: _Optional[int] = ..., event_types: _Optional[int] = ..., first_position: _Optional[int] = ..., last_position: _Optional[int] = ..., first_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., events_without_time: _Optional[int] = ..., intervals: _Optional[_Union[Durations, _Mapping]] = ..., entity_intervals: _Optional[_Union[Durations, _Mapping]] = ...) -> None: ...

class Durations(_message.Message):
    __slots__ = ("count", "min", "max", "mean", "p50", "p90", "p99")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    count: int
    min: _duration_pb2.Duration
    max: _duration_pb2.Duration
    mean: _duration_pb2.Duration
    p50: _duration_pb2.Duration
    p90: _duration_pb2.Duration
    p99: _duration_pb2.Duration
    def __init__(self, count: _Optional[int] = ..., min: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., mean: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p90: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetEventCorrelationRequest(_message.Message):
    __slots__ = ("filter", "first_type", "then_type", "within", "time", "as_of")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FIRST_TYPE_FIELD_NUMBER: _ClassVar[int]
    THEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    WITHIN_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    filter: _common_pb2.EventFilter
    first_type: str
    then_type: str
    within: _duration_pb2.Duration
    time: EventTime
    as_of: _common_pb2.AsOf
    def __init__(self, filter: _Optional[_Union[_common_pb2.EventFilter, _Mapping]] = ..., first_type: _Optional[str] = ..., then_type: _Optional[str] = ..., within: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., time: _Optional[_Union[EventTime, str]] = ..., as_of: _Optional[_Union[_common_pb2.AsOf, _Mapping]] = ...) -> None: ...

class GetEventCorrelationResponse(_message.Message):
    __slots__ = ("first_events", "then_events", "followed", "share", "delays", "head", "log_id")
    FIRST_EVENTS_FIELD_NUMBER: _ClassVar[int]
    THEN_EVENTS_FIELD_NUMBER: _ClassVar[int]
    FOLLOWED_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    DELAYS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    first_events: int
    then_events: int
    followed: int
    share: float
    delays: Durations
    head: int
    log_id: str
    def __init__(self, first_events: _Optional[int] = ..., then_events: _Optional[int] = ..., followed: _Optional[int] = ..., share: _Optional[float] = ..., delays: _Optional[_Union[Durations, _Mapping]] = ..., head: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...
