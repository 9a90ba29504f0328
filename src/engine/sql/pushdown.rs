//! Which part of a query's conditions a scan takes: what the index knows of (entities, types, tags, positions, times of
//! recording), and times of occurrence, which the scan looks at.
//!
//! Invariant: what is taken whole holds for exactly the rows that the scan gives. What is taken in part holds for more of
//! them; DataFusion looks at them again.

use std::collections::BTreeSet;

use datafusion::{
    arrow::{
        array::AsArray,
        datatypes::{DataType, TimeUnit},
    },
    logical_expr::{
        BinaryExpr, Expr, Operator,
        expr::{InList, Like, ScalarFunction},
    },
    scalar::ScalarValue,
};

use super::Within;
use crate::{
    engine::ingest::is_name,
    storage::segment::schema::{ENTITY_ID, EVENT_TYPE, OCCURRED_AT, POSITION, RECORDED_AT, TAGS},
    types::{
        append::{Query, QueryItem},
        id::Position,
        limits::GUARDS_MAX,
        read::{Filter, TimeRange},
        scan::Table,
        text::Text,
        time::Timestamp,
    },
};

/// Conditions on the rows of a table, all of which hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    is_events: bool,
    /// One of these.
    entity_ids: Option<BTreeSet<Text>>,
    /// One of these.
    event_types: Option<BTreeSet<Text>>,
    event_type_prefix: Text,
    /// All of these.
    tags: BTreeSet<Text>,
    /// One of these.
    items: Option<Vec<QueryItem>>,
    partitions: Vec<u32>,
    after: Position,
    through: Option<Position>,
    recorded: TimeRange,
    occurred: TimeRange,
    /// No row can fulfil them.
    nothing: bool,
}

/// How much of a condition was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Taken {
    Nothing,
    /// Rows that it does not hold for are given as well.
    Part,
    All,
}

impl Conditions {
    /// None, on the rows of a table.
    pub(super) fn of(table: &Table) -> Self {
        Self {
            is_events: *table != Table::Entities,
            ..Self::default()
        }
    }

    /// Those that hold for all rows of a table, whatever a query asks.
    pub(super) fn within(table: &Table, within: &Within) -> Self {
        let mut conditions = Self::of(table);
        if conditions.is_events {
            let Within {
                filter,
                after,
                through,
            } = within;
            let any_of =
                |names: &[Text]| (!names.is_empty()).then(|| names.iter().cloned().collect());
            conditions.entity_ids = any_of(&filter.entity_ids);
            conditions.event_types = any_of(&filter.event_types);
            conditions.event_type_prefix = filter.event_type_prefix.clone();
            conditions.tags = filter.tags.iter().cloned().collect();
            conditions.partitions.clone_from(&filter.partitions);
            let items = &filter.query.items;
            conditions.items = (!items.is_empty()).then(|| items.clone());
            (conditions.recorded, conditions.occurred) = (filter.recorded, filter.occurred);
            (conditions.after, conditions.through) = (*after, *through);
        }
        conditions
    }

    /// The filter that lets the same rows through, the position that they come after, and the last that they come up to;
    /// `None` if there can be no row.
    pub(super) fn into_filter(self) -> Option<(Filter, Position, Option<Position>)> {
        let list = |names: Option<BTreeSet<Text>>| names.into_iter().flatten().collect::<Vec<_>>();
        let is_none =
            |names: &Option<BTreeSet<Text>>| names.as_ref().is_some_and(BTreeSet::is_empty);
        if self.nothing
            || is_none(&self.entity_ids)
            || is_none(&self.event_types)
            || self.items.as_ref().is_some_and(Vec::is_empty)
        {
            return None;
        }
        let filter = Filter {
            entity_ids: list(self.entity_ids),
            event_types: list(self.event_types),
            event_type_prefix: self.event_type_prefix,
            tags: self.tags.into_iter().collect(),
            recorded: self.recorded,
            occurred: self.occurred,
            partitions: self.partitions,
            query: Query {
                items: self.items.unwrap_or_default(),
            },
        };
        Some((filter, self.after, self.through))
    }

    /// Adds a condition, as far as a scan knows of it.
    pub(super) fn take(&mut self, condition: &Expr) -> Taken {
        match condition {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::And,
                right,
            }) => self.take(left).min(self.take(right)),
            Expr::BinaryExpr(BinaryExpr {
                op: Operator::Or, ..
            })
            | Expr::InList(_) => match names_of(condition) {
                Some((column, names)) => self.take_names(column, names),
                None => self.take_items(condition),
            },
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                if let Some(value) = literal(right) {
                    return self.take_comparison(left, *op, value);
                }
                match (literal(left), op.swap()) {
                    (Some(value), Some(op)) => self.take_comparison(right, op, value),
                    _ => Taken::Nothing,
                }
            }
            Expr::Between(between) if !between.negated => {
                match (literal(&between.low), literal(&between.high)) {
                    (Some(low), Some(high)) => self
                        .take_comparison(&between.expr, Operator::GtEq, low)
                        .min(self.take_comparison(&between.expr, Operator::LtEq, high)),
                    _ => Taken::Nothing,
                }
            }
            Expr::Like(like) => self.take_like(like),
            Expr::ScalarFunction(call) => self.take_call(call),
            _ => Taken::Nothing,
        }
    }

    fn take_comparison(&mut self, left: &Expr, op: Operator, value: &ScalarValue) -> Taken {
        let Some((column, cast)) = column_of(left) else {
            return Taken::Nothing;
        };
        match column {
            ENTITY_ID | EVENT_TYPE if op == Operator::Eq => match text(value) {
                Some(name) => self.take_names(column, BTreeSet::from([name])),
                None => Taken::Nothing,
            },
            POSITION if cast.is_none_or(DataType::is_integer) => {
                integer(value).map_or(Taken::Nothing, |value| self.take_position(op, value))
            }
            RECORDED_AT | OCCURRED_AT if cast.is_none_or(is_fine_time) => match nanos(value) {
                Some(nanos) => self.take_time(column, op, nanos),
                None => Taken::Nothing,
            },
            _ => Taken::Nothing,
        }
    }

    fn take_names(&mut self, column: &str, names: BTreeSet<Text>) -> Taken {
        let mine = match column {
            ENTITY_ID => &mut self.entity_ids,
            EVENT_TYPE if self.is_events => &mut self.event_types,
            _ => return Taken::Nothing,
        };
        if !are_names(&names) {
            return Taken::Nothing;
        }
        *mine = Some(match mine.take() {
            Some(before) => before.intersection(&names).cloned().collect(),
            None => names,
        });
        Taken::All
    }

    fn take_prefix(&mut self, prefix: &Text) -> Taken {
        if !is_name(prefix) {
            return Taken::Nothing;
        }
        let mine = &mut self.event_type_prefix;
        if prefix.as_bytes().starts_with(mine.as_bytes()) {
            *mine = prefix.clone();
        } else if !mine.as_bytes().starts_with(prefix.as_bytes()) {
            self.nothing = true;
        }
        Taken::All
    }

    fn take_tags(&mut self, tags: BTreeSet<Text>) -> Taken {
        if !are_names(&tags) {
            return Taken::Nothing;
        }
        self.tags.extend(tags);
        Taken::All
    }

    fn take_position(&mut self, op: Operator, value: i128) -> Taken {
        if !self.is_events {
            return Taken::Nothing;
        }
        let (least, most) = match op {
            Operator::Eq => (value, value),
            Operator::Gt => (value + 1, i128::MAX),
            Operator::GtEq => (value, i128::MAX),
            Operator::Lt => (0, value - 1),
            Operator::LtEq => (0, value),
            _ => return Taken::Nothing,
        };
        if least > i128::from(i64::MAX) || most < 1 {
            self.nothing = true;
            return Taken::All;
        }
        let after = Position::try_from((least - 1).max(0)).unwrap_or(Position::MAX);
        self.after = self.after.max(after);
        if let Ok(through) = Position::try_from(most) {
            self.through = Some(self.through.map_or(through, |mine| mine.min(through)));
        }
        Taken::All
    }

    fn take_time(&mut self, column: &str, op: Operator, nanos: i128) -> Taken {
        if !self.is_events {
            return Taken::Nothing;
        }
        let (floor, is_whole) = (nanos.div_euclid(1_000), nanos.rem_euclid(1_000) == 0);
        let ceil = if is_whole { floor } else { floor + 1 };
        let (since, until) = match op {
            Operator::Eq if !is_whole => {
                self.nothing = true;
                return Taken::All;
            }
            Operator::Eq => (Some(floor), Some(floor + 1)),
            Operator::Gt => (Some(floor + 1), None),
            Operator::GtEq => (Some(ceil), None),
            Operator::Lt => (None, Some(ceil)),
            Operator::LtEq => (None, Some(floor + 1)),
            _ => return Taken::Nothing,
        };
        let (min, max) = (
            i128::from(Timestamp::MIN.as_micros()),
            i128::from(Timestamp::MAX.as_micros()),
        );
        if since.is_some_and(|since| since > max) || until.is_some_and(|until| until <= min) {
            self.nothing = true;
            return Taken::All;
        }
        let time = |micros: i128| i64::try_from(micros).ok().and_then(Timestamp::from_micros);
        let range = match column {
            RECORDED_AT => &mut self.recorded,
            _ => &mut self.occurred,
        };
        // One that excludes nothing but events without a time is kept all the same.
        if let Some(since) = since {
            let since = time(since.max(min));
            range.since = range.since.max(since);
        }
        if let Some(until) = until.and_then(time) {
            range.until = Some(range.until.map_or(until, |mine| mine.min(until)));
        } else if until.is_some() {
            range.since = range.since.max(Some(Timestamp::MIN));
        }
        Taken::All
    }

    fn take_like(&mut self, like: &Like) -> Taken {
        let Like {
            negated: false,
            case_insensitive: false,
            escape_char: None,
            expr,
            pattern,
        } = like
        else {
            return Taken::Nothing;
        };
        let (Some((EVENT_TYPE, _)), Some(pattern)) =
            (column_of(expr), literal(pattern).and_then(text))
        else {
            return Taken::Nothing;
        };
        let Ok(pattern) = str::from_utf8(pattern.as_bytes()) else {
            return Taken::Nothing;
        };
        if !self.is_events || pattern.contains('\\') {
            return Taken::Nothing;
        }
        let Some(end) = pattern.find(['%', '_']) else {
            return self.take_names(EVENT_TYPE, BTreeSet::from([pattern.into()]));
        };
        let (prefix, rest) = pattern.split_at(end);
        if prefix.is_empty() {
            return Taken::Nothing;
        }
        let taken = self.take_prefix(&prefix.into());
        if rest == "%" { taken } else { Taken::Part }
    }

    fn take_call(&mut self, call: &ScalarFunction) -> Taken {
        let [first, second] = call.args.as_slice() else {
            return Taken::Nothing;
        };
        let (Some((column, _)), Some(value)) = (column_of(first), literal(second)) else {
            return Taken::Nothing;
        };
        if !self.is_events {
            return Taken::Nothing;
        }
        match (call.func.name(), column) {
            ("starts_with", EVENT_TYPE) => match text(value) {
                Some(prefix) => self.take_prefix(&prefix),
                None => Taken::Nothing,
            },
            ("array_has", TAGS) => match text(value) {
                Some(tag) => self.take_tags(BTreeSet::from([tag])),
                None => Taken::Nothing,
            },
            ("array_has_all", TAGS) => match texts(value) {
                Some(tags) => self.take_tags(tags),
                None => Taken::Nothing,
            },
            ("array_has_any", TAGS) => self.take_items(&Expr::ScalarFunction(call.clone())),
            _ => Taken::Nothing,
        }
    }

    /// Takes what is said of types and tags in whatever way, if nothing of this kind was taken before: of two, the scan
    /// knows one.
    fn take_items(&mut self, condition: &Expr) -> Taken {
        if !self.is_events || self.items.is_some() {
            return Taken::Nothing;
        }
        self.items = items_of(condition);
        match self.items {
            Some(_) => Taken::Part,
            None => Taken::Nothing,
        }
    }
}

/// The items of a query, one of which an event matches, if the condition is about types and tags alone.
fn items_of(condition: &Expr) -> Option<Vec<QueryItem>> {
    let items = match condition {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => {
            let mut items = items_of(left)?;
            items.extend(items_of(right)?);
            items
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => {
            let (left, right) = (items_of(left)?, items_of(right)?);
            if left.len() * right.len() > GUARDS_MAX {
                return None;
            }
            let both = left
                .iter()
                .flat_map(|one| right.iter().map(|other| both(one, other)));
            both.flatten().collect()
        }
        Expr::ScalarFunction(call) => {
            let [tags, value] = call.args.as_slice() else {
                return None;
            };
            let ((TAGS, _), value) = (column_of(tags)?, literal(value)?) else {
                return None;
            };
            let tags = match call.func.name() {
                "array_has" => BTreeSet::from([text(value)?]),
                "array_has_all" | "array_has_any" => texts(value)?,
                _ => return None,
            };
            if !are_names(&tags) {
                return None;
            }
            let item = |tags: Vec<Text>| QueryItem {
                tags,
                ..QueryItem::default()
            };
            if call.func.name() == "array_has_any" {
                tags.into_iter().map(|tag| item(vec![tag])).collect()
            } else {
                vec![item(tags.into_iter().collect())]
            }
        }
        _ => {
            let (EVENT_TYPE, names) = names_of(condition)? else {
                return None;
            };
            if !are_names(&names) {
                return None;
            }
            vec![QueryItem {
                event_types: names.into_iter().collect(),
                ..QueryItem::default()
            }]
        }
    };
    let is_short = |item: &QueryItem| item.event_types.len() + item.tags.len() <= GUARDS_MAX;
    // An item that asks nothing is none.
    let asks = |item: &QueryItem| !item.event_types.is_empty() || !item.tags.is_empty();
    (items.len() <= GUARDS_MAX && items.iter().all(|item| is_short(item) && asks(item)))
        .then_some(items)
}

/// What matches both; `None` if nothing does.
fn both(one: &QueryItem, other: &QueryItem) -> Option<QueryItem> {
    let event_types = match (&one.event_types[..], &other.event_types[..]) {
        ([], types) | (types, []) => types.to_vec(),
        (one, other) => {
            let types: Vec<_> = one.iter().filter(|t| other.contains(t)).cloned().collect();
            if types.is_empty() {
                return None;
            }
            types
        }
    };
    let tags: BTreeSet<_> = one.tags.iter().chain(&other.tags).cloned().collect();
    Some(QueryItem {
        event_types,
        tags: tags.into_iter().collect(),
    })
}

/// The column whose value is one of some texts, if the condition says no more.
fn names_of(condition: &Expr) -> Option<(&str, BTreeSet<Text>)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => {
            let (column, mut names) = names_of(left)?;
            let (other, more) = names_of(right)?;
            names.extend(more);
            (column == other).then_some((column, names))
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => {
            let (column, value) = match literal(right) {
                Some(value) => (left, value),
                None => (right, literal(left)?),
            };
            Some((column_of(column)?.0, BTreeSet::from([text(value)?])))
        }
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => {
            let names = list.iter().map(|item| literal(item).and_then(text));
            Some((column_of(expr)?.0, names.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// The column of a side of a comparison, and the type that it is cast to, if it is.
fn column_of(side: &Expr) -> Option<(&str, Option<&DataType>)> {
    match side {
        Expr::Column(column) => Some((&column.name, None)),
        Expr::Cast(cast) => match &*cast.expr {
            Expr::Column(column) => Some((&column.name, Some(cast.field.data_type()))),
            _ => None,
        },
        _ => None,
    }
}

fn literal(side: &Expr) -> Option<&ScalarValue> {
    match side {
        Expr::Literal(value, _) if !value.is_null() => Some(value),
        _ => None,
    }
}

fn text(value: &ScalarValue) -> Option<Text> {
    value.try_as_str().flatten().map(Text::from)
}

/// The texts of a list.
fn texts(value: &ScalarValue) -> Option<BTreeSet<Text>> {
    let ScalarValue::List(list) = value else {
        return None;
    };
    let values = list.value(0);
    let values = values.as_string_opt::<i32>()?;
    values.iter().map(|value| value.map(Text::from)).collect()
}

fn integer(value: &ScalarValue) -> Option<i128> {
    Some(match value {
        ScalarValue::Int8(value) => i128::from((*value)?),
        ScalarValue::Int16(value) => i128::from((*value)?),
        ScalarValue::Int32(value) => i128::from((*value)?),
        ScalarValue::Int64(value) => i128::from((*value)?),
        ScalarValue::UInt8(value) => i128::from((*value)?),
        ScalarValue::UInt16(value) => i128::from((*value)?),
        ScalarValue::UInt32(value) => i128::from((*value)?),
        ScalarValue::UInt64(value) => i128::from((*value)?),
        _ => return None,
    })
}

/// A time, in nanoseconds since 1970. Times without a zone are UTC, as those of the columns are.
fn nanos(value: &ScalarValue) -> Option<i128> {
    let (value, unit) = match value {
        ScalarValue::TimestampSecond(value, _) => ((*value)?, 1_000_000_000),
        ScalarValue::TimestampMillisecond(value, _) => ((*value)?, 1_000_000),
        ScalarValue::TimestampMicrosecond(value, _) => ((*value)?, 1_000),
        ScalarValue::TimestampNanosecond(value, _) => ((*value)?, 1),
        _ => return None,
    };
    Some(i128::from(value) * unit)
}

/// Whether a column of times keeps all of them as that type.
fn is_fine_time(cast: &DataType) -> bool {
    matches!(
        cast,
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
    )
}

/// Whether a scan takes such names.
fn are_names(names: &BTreeSet<Text>) -> bool {
    names.len() <= GUARDS_MAX && names.iter().all(is_name)
}

#[cfg(test)]
mod tests {
    use datafusion::{
        functions_nested::expr_fn::array_has,
        logical_expr::{ident, lit},
    };

    use super::*;

    #[test]
    fn types_and_tags_together_are_items() {
        let condition = array_has(ident(TAGS), lit("x")).or(ident(EVENT_TYPE).eq(lit("a")));
        let mut conditions = Conditions::of(&Table::Events);
        assert_eq!(conditions.take(&condition), Taken::Part);
        let (filter, ..) = conditions.into_filter().unwrap();
        assert_eq!(filter.query.items.len(), 2);
    }
}
