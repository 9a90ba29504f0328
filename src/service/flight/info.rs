//! What there is to get: tables, their schemas and numbers, and tickets for them.
//!
//! `GetFlightInfo` pins the head into its tickets, so that whoever reads its endpoints, in whatever order and however
//! often, reads one cut of the log. A large table is divided by position into endpoints that are read side by side, and
//! joined in their order.
//!
//! A type that never occurred has a table without rows. A type is a filter, and readers are started before the first of
//! their events is there: what they asked for must not be an error today and a table tomorrow.

use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, PollInfo, Ticket as WireTicket,
    flight_descriptor::DescriptorType,
};
use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tonic::Status;

use super::{
    super::{convert::wire_time, status::Refusal},
    encode,
    ticket::{QueryId, Sealed, Tickets, typed},
};
use crate::{
    engine::{
        log::set::Count,
        table::schema,
        tenant::{ListRequest, NameSummary, Tenant, blocking},
    },
    types::{
        append::Violations,
        id::Position,
        kind::Kind,
        limits::{ENDPOINT_EVENTS_MIN, ENDPOINTS_MAX, PAGE_MAX},
        read::{AsOf, ReadError},
        scan::{ScanRequest, TABLES, Table},
        text::Text,
    },
};

/// What a descriptor asks for: a path names a table, a command is a scan in JSON.
fn scan_of(descriptor: &FlightDescriptor) -> Result<ScanRequest, Refusal> {
    match DescriptorType::try_from(descriptor.r#type) {
        Ok(DescriptorType::Cmd) => typed(&descriptor.cmd),
        Ok(DescriptorType::Path) => {
            let table = Table::from_path(&descriptor.path).ok_or_else(|| {
                let told = format!("`{}` is no table: {TABLES}", descriptor.path.join("/"));
                Refusal::new(Kind::NotFound, "NO_SUCH_TABLE", told)
            })?;
            Ok(ScanRequest {
                table,
                ..ScanRequest::default()
            })
        }
        Ok(DescriptorType::Unknown) | Err(_) => {
            let told =
                "is neither a path, like [\"events\"], nor a command, like {\"table\": \"events\"}";
            Err(Refusal::invalid(Violations::one("descriptor.type", told)))
        }
    }
}

/// The schema that a descriptor's rows have.
pub(super) async fn schema_of(
    tenant: Tenant,
    descriptor: FlightDescriptor,
) -> Result<Bytes, Refusal> {
    let scan = scan_of(&descriptor)?;
    let scan = blocking(move || tenant.scan(&scan)).await?;
    encode::schema(scan.schema())
}

/// What a descriptor's rows are, and the tickets for them.
pub(super) async fn info(
    tickets: &Tickets,
    tenant: Tenant,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Refusal> {
    let scan = scan_of(&descriptor)?;
    let looking = tenant.clone();
    let cut = blocking(move || Cut::of(&looking, scan)).await?;
    described(tickets, &tenant, descriptor, cut)
}

/// As [`info`]: there is nothing to wait for.
pub(super) async fn poll(
    tickets: &Tickets,
    tenant: Tenant,
    descriptor: FlightDescriptor,
) -> Result<PollInfo, Refusal> {
    Ok(PollInfo {
        info: Some(info(tickets, tenant, descriptor).await?),
        flight_descriptor: None,
        progress: Some(1.0),
        expiration_time: None,
    })
}

/// All tables, as of one head; types a page at a time.
pub(super) async fn list(
    tickets: &Tickets,
    tenant: Tenant,
) -> Result<BoxStream<'static, Result<FlightInfo, Status>>, Refusal> {
    let listing = Listing {
        tickets: tickets.clone(),
        head: tenant.head(),
        tenant,
        types: Vec::new().into_iter(),
        after: None,
        more: true,
    };
    let (first, listing) = blocking(move || {
        let first = [Table::Events, Table::Entities].map(|table| listing.table(table));
        let first: Result<Vec<_>, _> = first.into_iter().collect();
        (first, listing)
    })
    .await;
    let types = stream::unfold(listing, |mut listing| async {
        let (info, mut listing) = blocking(move || (listing.next(), listing)).await;
        let info = info.transpose()?;
        if info.is_err() {
            listing.more = false;
        }
        Some((info.map_err(Refusal::into_status), listing))
    });
    Ok(stream::iter(first?.into_iter().map(Ok))
        .chain(types)
        .boxed())
}

/// The tables of types, as they are listed.
struct Listing {
    tickets: Tickets,
    tenant: Tenant,
    head: Position,
    types: std::vec::IntoIter<NameSummary>,
    after: Option<Text>,
    more: bool,
}

impl Listing {
    fn next(&mut self) -> Result<Option<FlightInfo>, Refusal> {
        if self.types.len() == 0 && self.more {
            let request = ListRequest {
                after: self.after.take(),
                limit: PAGE_MAX,
                head: Some(self.head),
                ..ListRequest::default()
            };
            let page = self.tenant.list_event_types(&request)?;
            self.more = page.more;
            self.after = page.names.last().map(|last| last.name.clone());
            self.types = page.names.into_iter();
        }
        let Some(next) = self.types.next() else {
            return Ok(None);
        };
        self.table(Table::Type(next.name)).map(Some)
    }

    fn table(&self, table: Table) -> Result<FlightInfo, Refusal> {
        let descriptor = FlightDescriptor::new_path(table.path());
        let scan = ScanRequest {
            table,
            ..ScanRequest::default()
        };
        let cut = Cut::at(&self.tenant, scan, self.head)?;
        described(&self.tickets, &self.tenant, descriptor, cut)
    }
}

/// A scan, and what is known of it once its head is.
struct Cut {
    scan: ScanRequest,
    head: Position,
    /// `None`: it goes on, or is one of entities. Their number is not known: the log counts those of events as well that
    /// readers do not see yet.
    count: Option<Count>,
}

impl Cut {
    fn of(tenant: &Tenant, scan: ScanRequest) -> Result<Self, ReadError> {
        let head = tenant.scan(&scan)?.head();
        Self::at(tenant, scan, head)
    }

    fn at(tenant: &Tenant, scan: ScanRequest, head: Position) -> Result<Self, ReadError> {
        let count = match &scan.table {
            Table::Events | Table::Type(_) if !scan.follow => Some(tenant.scan_count(&scan, head)?),
            Table::Events | Table::Type(_) | Table::Entities => None,
        };
        Ok(Self { scan, head, count })
    }
}

fn described(
    tickets: &Tickets,
    tenant: &Tenant,
    descriptor: FlightDescriptor,
    cut: Cut,
) -> Result<FlightInfo, Refusal> {
    let Cut {
        mut scan,
        head,
        count,
    } = cut;
    let schema = encode::schema(&*schema::of(&scan.table, &scan.columns)?)?;
    scan.log_id = Some(tenant.log_id());
    let query = QueryId::new_v4();
    let records = count.filter(|count| count.exact);
    let events = count.map_or(u64::MAX, |count| count.at_most);
    let endpoints = parts(scan, head, events).into_iter();
    let endpoints = endpoints.map(|part| endpoint(tickets, &Sealed::new(part, query)));
    let told = format!(r#"{{"log_id":"{}","head":{head}}}"#, tenant.log_id());
    Ok(FlightInfo {
        schema,
        flight_descriptor: Some(descriptor),
        endpoint: endpoints.collect(),
        total_records: records.map_or(-1, |count| count.at_most.cast_signed()),
        total_bytes: -1,
        ordered: true,
        app_metadata: told.into(),
    })
}

/// Where to get what a ticket is for: here. Its metadata is the same scan as JSON, so that who lost a stream can go on
/// `after` the last position.
pub(super) fn endpoint(tickets: &Tickets, ticket: &Sealed) -> FlightEndpoint {
    FlightEndpoint {
        ticket: Some(WireTicket::new(tickets.encode(ticket))),
        location: Vec::new(),
        expiration_time: Some(wire_time(ticket.expires_at)),
        app_metadata: ticket.scan.to_json().into(),
    }
}

/// A scan of at most so many events as of a head, divided into scans of consecutive positions.
fn parts(mut scan: ScanRequest, head: Position, events: u64) -> Vec<ScanRequest> {
    if scan.follow {
        return vec![scan];
    }
    if scan.table == Table::Entities {
        scan.as_of = Some(AsOf::Position(head));
        return vec![scan];
    }
    scan.as_of = None;
    let positions = head.saturating_sub(scan.after);
    let count = match scan.limit {
        Some(_) => 1,
        None => (positions.min(events) / ENDPOINT_EVENTS_MIN).clamp(1, ENDPOINTS_MAX),
    };
    // Without a product of two positions, which may be too large.
    let bound = |n: u64| {
        let rest = (positions % count) * n / count;
        scan.after + positions / count * n + rest
    };
    let part = |n: u64| ScanRequest {
        after: bound(n),
        through: Some(if n + 1 == count { head } else { bound(n + 1) }),
        ..scan.clone()
    };
    (0..count).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(after: Position, head: Position) -> Vec<(Position, Position)> {
        let scan = ScanRequest {
            after,
            as_of: Some(AsOf::Position(head)),
            ..ScanRequest::default()
        };
        let parts = parts(scan, head, u64::MAX).into_iter();
        parts
            .map(|part| {
                assert_eq!(part.as_of, None);
                (part.after, part.through.unwrap())
            })
            .collect()
    }

    #[test]
    fn parts_are_consecutive_and_neither_many_nor_small() {
        let min = ENDPOINT_EVENTS_MIN;
        for (after, head) in [
            (0, 0),
            (5, 5),
            (5, 3),
            (0, 2 * min - 1),
            (7, 2 * min + 7),
            (0, 5 * min + 3),
            (1, 8 * min + 5),
            (0, 1_000_000_007),
            (3, u64::MAX / 2),
        ] {
            let parts = divided(after, head);
            assert_eq!((parts[0].0, parts[parts.len() - 1].1), (after, head));
            assert!(parts.windows(2).all(|pair| pair[0].1 == pair[1].0));
            let count = head.saturating_sub(after) / min;
            assert_eq!(parts.len() as u64, count.clamp(1, ENDPOINTS_MAX));
            if parts.len() > 1 {
                let sizes = parts.iter().map(|(after, through)| through - after);
                assert!(sizes.clone().all(|size| size >= min));
                assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn what_ends_early_or_never_is_one_part() {
        let head = 10 * ENDPOINT_EVENTS_MIN;
        let limited = ScanRequest {
            limit: Some(5),
            ..ScanRequest::default()
        };
        let expected = ScanRequest {
            through: Some(head),
            ..limited.clone()
        };
        assert_eq!(parts(limited, head, u64::MAX), [expected]);
        let followed = ScanRequest {
            follow: true,
            ..ScanRequest::default()
        };
        assert_eq!(parts(followed.clone(), head, u64::MAX), [followed]);
        let entities = ScanRequest {
            table: Table::Entities,
            ..ScanRequest::default()
        };
        let expected = ScanRequest {
            as_of: Some(AsOf::Position(head)),
            ..entities.clone()
        };
        assert_eq!(parts(entities, head, u64::MAX), [expected]);
    }
}
