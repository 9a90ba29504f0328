import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TriggerCompactionRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TriggerCompactionResponse(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: CompactionStats
    def __init__(self, stats: _Optional[_Union[CompactionStats, _Mapping]] = ...) -> None: ...

class GetCompactionStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCompactionStatsResponse(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: CompactionStats
    def __init__(self, stats: _Optional[_Union[CompactionStats, _Mapping]] = ...) -> None: ...

class CompactionStats(_message.Message):
    __slots__ = ("segments", "segment_bytes", "small_segments", "target_bytes", "running", "progress_bytes", "progress_bytes_total", "compactions", "compacted_segments", "written_bytes", "failures", "last_error", "last_took")
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SMALL_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    TARGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    COMPACTIONS_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_BYTES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    LAST_TOOK_FIELD_NUMBER: _ClassVar[int]
    segments: int
    segment_bytes: int
    small_segments: int
    target_bytes: int
    running: bool
    progress_bytes: int
    progress_bytes_total: int
    compactions: int
    compacted_segments: int
    written_bytes: int
    failures: int
    last_error: str
    last_took: _duration_pb2.Duration
    def __init__(self, segments: _Optional[int] = ..., segment_bytes: _Optional[int] = ..., small_segments: _Optional[int] = ..., target_bytes: _Optional[int] = ..., running: bool = ..., progress_bytes: _Optional[int] = ..., progress_bytes_total: _Optional[int] = ..., compactions: _Optional[int] = ..., compacted_segments: _Optional[int] = ..., written_bytes: _Optional[int] = ..., failures: _Optional[int] = ..., last_error: _Optional[str] = ..., last_took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class VerifyIntegrityRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifyIntegrityResponse(_message.Message):
    __slots__ = ("progress", "fault", "summary")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    progress: VerifyProgress
    fault: IntegrityFault
    summary: VerifySummary
    def __init__(self, progress: _Optional[_Union[VerifyProgress, _Mapping]] = ..., fault: _Optional[_Union[IntegrityFault, _Mapping]] = ..., summary: _Optional[_Union[VerifySummary, _Mapping]] = ...) -> None: ...

class VerifyProgress(_message.Message):
    __slots__ = ("bytes_done", "bytes_total")
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    def __init__(self, bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ...) -> None: ...

class IntegrityFault(_message.Message):
    __slots__ = ("path", "offset", "what")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    path: str
    offset: int
    what: str
    def __init__(self, path: _Optional[str] = ..., offset: _Optional[int] = ..., what: _Optional[str] = ...) -> None: ...

class VerifySummary(_message.Message):
    __slots__ = ("files", "events", "faults")
    FILES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    files: int
    events: int
    faults: int
    def __init__(self, files: _Optional[int] = ..., events: _Optional[int] = ..., faults: _Optional[int] = ...) -> None: ...
