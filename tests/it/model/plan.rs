//! What random sequences consist of. Plans hold small numbers, not names and positions: those are picked when the plan's
//! turn comes (`pick.rs`), so that they fit what is there then, also after a sequence was made smaller.

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::select,
    strategy::Union,
};

/// A run of the model.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    /// Of a full log file.
    pub(super) file_bytes: u64,
    pub(super) operations: Vec<Operation>,
}

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Append(BatchPlan),
    Repeat(RepeatPlan),
    Read(ReadPlan),
    Event(PositionPlan),
    /// That of an event, or one that nobody has.
    EventById(Option<u16>),
    State(NamePlan, Option<AsOfPlan>),
    List(ListPlan),
    Cursor(NamePlan),
    Stats,
    /// Reads a new subscription until it has caught up; `None` starts at the head.
    Subscribe(FilterPlan, Option<PositionPlan>),
    /// Starts a subscription that goes on.
    Follow(FilterPlan, PositionPlan),
    Reopen(Reopen),
    /// Waits until no two segments that fit into one are neighbours.
    Compact,
    /// Moves the clock, in µs.
    Clock(i64),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Reopen {
    Close,
    /// Appends again what is there already, drops these calls and the engine, never closes it.
    Drop,
}

/// Picks one name of a list; from 200 on, one that is refused.
pub(super) type NamePlan = u8;

#[derive(Debug, Clone, Copy)]
pub(super) enum PositionPlan {
    /// Somewhere from 0 to the head.
    At(u16),
    Head,
    /// Behind the head.
    Beyond(u8),
    Max,
}

/// Around the time of an event.
#[derive(Debug, Clone, Copy)]
pub(super) enum TimePlan {
    OfEvent(u16, i8),
    Min,
    Max,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum AsOfPlan {
    Position(PositionPlan),
    Version(u8),
    Time(TimePlan),
}

#[derive(Debug, Clone)]
pub(super) struct BatchPlan {
    pub(super) events: Vec<EventPlan>,
    pub(super) conditions: Conditions,
    /// Whose log id to state: true, this log's.
    pub(super) log_id: Option<bool>,
}

/// What a batch carries besides events.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    pub(super) guards: Vec<GuardPlan>,
    pub(super) cursors: Vec<CursorPlan>,
}

#[derive(Debug, Clone)]
pub(super) struct EventPlan {
    pub(super) has_id: bool,
    pub(super) entity: NamePlan,
    pub(super) event_type: NamePlan,
    /// From 1,000 on: so many bytes; from 200 on, one that is refused.
    pub(super) payload: u16,
    /// From 200 on, one that is refused.
    pub(super) metadata: Option<u8>,
    pub(super) tags: Vec<NamePlan>,
    pub(super) occurred: Option<u8>,
}

#[derive(Debug, Clone)]
pub(super) enum GuardPlan {
    Any(NamePlan),
    Absent(NamePlan),
    Exists(NamePlan),
    /// So far from the version that the entity has.
    Version(NamePlan, i8),
    NoMatch(Vec<ItemPlan>, PositionPlan),
}

#[derive(Debug, Clone)]
pub(super) struct ItemPlan {
    pub(super) types: Vec<NamePlan>,
    pub(super) tags: Vec<NamePlan>,
}

#[derive(Debug, Clone)]
pub(super) struct CursorPlan {
    pub(super) name: NamePlan,
    pub(super) position: PositionPlan,
    /// So far from where the cursor stands.
    pub(super) expected: Option<i8>,
}

#[derive(Debug, Clone)]
pub(super) struct RepeatPlan {
    pub(super) first: u16,
    pub(super) count: u8,
    pub(super) change: Change,
    pub(super) conditions: Conditions,
}

/// How a repeat differs from what it repeats; a number is the index of an event.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Nothing,
    Reversed,
    LeftOut(u8),
    Twice(u8),
    NewBefore,
    NewBehind,
    WithoutIdBehind,
    OtherPayload(u8),
    OtherMetadata(u8),
    OtherType(u8),
    OtherEntity(u8),
    OtherOccurred(u8),
    OneMoreTag(u8),
    TagsReversed(u8),
}

#[derive(Debug, Clone)]
pub(super) struct FilterPlan {
    pub(super) entities: Vec<NamePlan>,
    pub(super) types: Vec<NamePlan>,
    pub(super) prefix: Option<NamePlan>,
    pub(super) tags: Vec<NamePlan>,
    pub(super) partitions: Vec<PartitionPlan>,
    pub(super) items: Vec<ItemPlan>,
    pub(super) recorded: (Option<TimePlan>, Option<TimePlan>),
    pub(super) occurred: (Option<u8>, Option<u8>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum PartitionPlan {
    OfEntity(u8),
    Number(u32),
}

#[derive(Debug, Clone)]
pub(super) struct ReadPlan {
    pub(super) filter: FilterPlan,
    pub(super) after: Option<PositionPlan>,
    pub(super) through: Option<PositionPlan>,
    pub(super) backward: bool,
    pub(super) limit: Option<u8>,
    pub(super) as_of: Option<AsOfPlan>,
    pub(super) log_id: Option<bool>,
}

#[derive(Debug, Clone)]
pub(super) struct ListPlan {
    pub(super) types: bool,
    pub(super) prefix: Option<u8>,
    pub(super) page: u8,
    pub(super) head: Option<PositionPlan>,
}

pub(super) fn sequences() -> impl Strategy<Value = Sequence> {
    let file_bytes = select(vec![8 << 10, 16 << 10, 64 << 10]);
    (file_bytes, vec(operation(), 1..28)).prop_map(|(file_bytes, operations)| Sequence {
        file_bytes,
        operations,
    })
}

fn operation() -> Union<proptest::strategy::BoxedStrategy<Operation>> {
    Union::new_weighted(vec![
        (30, batch().prop_map(Operation::Append).boxed()),
        (12, repeat().prop_map(Operation::Repeat).boxed()),
        (16, read().prop_map(Operation::Read).boxed()),
        (4, position().prop_map(Operation::Event).boxed()),
        (
            3,
            option::weighted(0.8, any::<u16>())
                .prop_map(Operation::EventById)
                .boxed(),
        ),
        (
            8,
            (name(), option::of(as_of()))
                .prop_map(|(name, as_of)| Operation::State(name, as_of))
                .boxed(),
        ),
        (5, list().prop_map(Operation::List).boxed()),
        (3, name().prop_map(Operation::Cursor).boxed()),
        (4, Just(Operation::Stats).boxed()),
        (
            5,
            (filter(), option::weighted(0.8, position()))
                .prop_map(|(filter, start)| Operation::Subscribe(filter, start))
                .boxed(),
        ),
        (
            3,
            (filter(), position())
                .prop_map(|(filter, start)| Operation::Follow(filter, start))
                .boxed(),
        ),
        (
            4,
            select(vec![Reopen::Close, Reopen::Drop])
                .prop_map(Operation::Reopen)
                .boxed(),
        ),
        (4, Just(Operation::Compact).boxed()),
        (
            4,
            prop_oneof![
                4 => 0..1_000i64,
                2 => -10..10i64,
                1 => -400_000_000..400_000_000i64,
            ]
            .prop_map(Operation::Clock)
            .boxed(),
        ),
    ])
}

fn name() -> impl Strategy<Value = NamePlan> {
    prop_oneof![200 => 0..6u8, 1 => 200..207u8]
}

fn position() -> impl Strategy<Value = PositionPlan> {
    prop_oneof![
        16 => any::<u16>().prop_map(PositionPlan::At),
        6 => Just(PositionPlan::Head),
        1 => (0..3u8).prop_map(PositionPlan::Beyond),
        1 => Just(PositionPlan::Max),
    ]
}

fn time() -> impl Strategy<Value = TimePlan> {
    prop_oneof![
        12 => (any::<u16>(), -1..=1i8).prop_map(|(event, off)| TimePlan::OfEvent(event, off)),
        1 => Just(TimePlan::Min),
        1 => Just(TimePlan::Max),
    ]
}

fn as_of() -> impl Strategy<Value = AsOfPlan> {
    prop_oneof![
        position().prop_map(AsOfPlan::Position),
        (0..6u8).prop_map(AsOfPlan::Version),
        time().prop_map(AsOfPlan::Time),
    ]
}

fn log_id() -> impl Strategy<Value = Option<bool>> {
    prop_oneof![40 => Just(None), 4 => Just(Some(true)), 1 => Just(Some(false))]
}

pub(super) fn batch() -> impl Strategy<Value = BatchPlan> {
    let events = prop_oneof![
        30 => vec(event(), 1..4),
        1 => vec(event(), 0..1),
        3 => vec(event(), 4..30),
        1 => vec(event(), 38..44),
    ];
    (events, conditions(0.4), log_id()).prop_map(|(events, conditions, log_id)| BatchPlan {
        events,
        conditions,
        log_id,
    })
}

fn conditions(often: f64) -> impl Strategy<Value = Conditions> {
    let guards = option::weighted(often, vec(guard(), 1..3));
    let cursors = option::weighted(often / 2.0, vec(cursor(), 1..3));
    (guards, cursors).prop_map(|(guards, cursors)| Conditions {
        guards: guards.unwrap_or_default(),
        cursors: cursors.unwrap_or_default(),
    })
}

fn event() -> impl Strategy<Value = EventPlan> {
    let payload = prop_oneof![
        100 => 0..12u16,
        6 => 1_000..3_000u16,
        1 => 4_000..4_200u16,
        1 => 200..208u16,
    ];
    let metadata = prop_oneof![60 => 0..3u8, 1 => 200..205u8];
    (
        any::<bool>(),
        name(),
        name(),
        payload,
        option::weighted(0.3, metadata),
        vec(name(), 0..3),
        option::weighted(0.4, 0..7u8),
    )
        .prop_map(
            |(has_id, entity, event_type, payload, metadata, tags, occurred)| EventPlan {
                has_id,
                entity,
                event_type,
                payload,
                metadata,
                tags,
                occurred,
            },
        )
}

fn guard() -> impl Strategy<Value = GuardPlan> {
    prop_oneof![
        1 => name().prop_map(GuardPlan::Any),
        1 => name().prop_map(GuardPlan::Absent),
        2 => name().prop_map(GuardPlan::Exists),
        5 => (name(), prop_oneof![4 => Just(0i8), 1 => -1..=1i8])
            .prop_map(|(name, off)| GuardPlan::Version(name, off)),
        5 => (items(0..3), position()).prop_map(|(items, after)| GuardPlan::NoMatch(items, after)),
    ]
}

fn items(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<ItemPlan>> {
    let item =
        (vec(name(), 0..3), vec(name(), 0..3)).prop_map(|(types, tags)| ItemPlan { types, tags });
    vec(item, count)
}

fn cursor() -> impl Strategy<Value = CursorPlan> {
    let off = prop_oneof![4 => Just(0i8), 1 => -1..=1i8];
    (name(), position(), option::of(off)).prop_map(|(name, position, expected)| CursorPlan {
        name,
        position,
        expected,
    })
}

fn repeat() -> impl Strategy<Value = RepeatPlan> {
    let change = (any::<u8>(), 0..24u8).prop_map(|(index, change)| match change {
        0 => Change::Reversed,
        1 => Change::LeftOut(index),
        2 => Change::Twice(index),
        3 => Change::NewBefore,
        4 => Change::NewBehind,
        5 => Change::WithoutIdBehind,
        6 => Change::OtherPayload(index),
        7 => Change::OtherMetadata(index),
        8 => Change::OtherType(index),
        9 => Change::OtherEntity(index),
        10 => Change::OtherOccurred(index),
        11 => Change::OneMoreTag(index),
        12 => Change::TagsReversed(index),
        _ => Change::Nothing,
    });
    (any::<u16>(), 1..6u8, change, conditions(0.3)).prop_map(
        |(first, count, change, conditions)| RepeatPlan {
            first,
            count,
            change,
            conditions,
        },
    )
}

fn filter() -> impl Strategy<Value = FilterPlan> {
    fn few<S: Strategy>(often: f64, of: S) -> impl Strategy<Value = Vec<S::Value>>
    where
        S::Value: Clone,
    {
        option::weighted(often, vec(of, 1..3)).prop_map(Option::unwrap_or_default)
    }
    let partition = prop_oneof![
        10 => (0..6u8).prop_map(PartitionPlan::OfEntity),
        4 => (0..32u32).prop_map(PartitionPlan::Number),
        1 => (32..34u32).prop_map(PartitionPlan::Number),
    ];
    let range = |often| option::weighted(often, time());
    (
        few(0.3, name()),
        few(0.3, name()),
        option::weighted(0.2, 0..8u8),
        few(0.2, name()),
        few(0.2, partition),
        option::weighted(0.2, items(1..3)).prop_map(Option::unwrap_or_default),
        (range(0.15), range(0.15)),
        (
            option::weighted(0.15, 0..8u8),
            option::weighted(0.15, 0..8u8),
        ),
    )
        .prop_map(
            |(entities, types, prefix, tags, partitions, items, recorded, occurred)| FilterPlan {
                entities,
                types,
                prefix,
                tags,
                partitions,
                items,
                recorded,
                occurred,
            },
        )
}

pub(super) fn read() -> impl Strategy<Value = ReadPlan> {
    (
        filter(),
        option::of(position()),
        option::weighted(0.4, position()),
        any::<bool>(),
        option::weighted(0.4, 0..9u8),
        option::weighted(0.4, as_of()),
        log_id(),
    )
        .prop_map(
            |(filter, after, through, backward, limit, as_of, log_id)| ReadPlan {
                filter,
                after,
                through,
                backward,
                limit,
                as_of,
                log_id,
            },
        )
}

fn list() -> impl Strategy<Value = ListPlan> {
    (
        any::<bool>(),
        option::of(0..8u8),
        0..5u8,
        option::weighted(0.4, position()),
    )
        .prop_map(|(types, prefix, page, head)| ListPlan {
            types,
            prefix,
            page,
            head,
        })
}
