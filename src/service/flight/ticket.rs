//! Tickets: which scan a `DoGet` is about.
//!
//! One that begins with `{` is a [`ScanRequest`] or a [`SqlTicket`] in JSON, which a person can type. All others are sealed:
//! made by `GetFlightInfo`, so that every endpoint, every retry and every restart sees the same cut of the log. The server keeps
//! nothing of them:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic and version, `ANNALST1` |
//! | 8 | 8 | when it expires, µs since 1970, little-endian |
//! | 16 | 16 | query id |
//! | 32 | | the scan in JSON, with the id of its log |
//! | behind | 32 | HMAC-SHA256 of all before, with the key of the data folder |
//!
//! Invariant: nothing of a sealed ticket is looked at before its seal was found to be right.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::{super::status::Refusal, sql_ticket::SqlTicket};
use crate::types::{
    append::Violations,
    id::LogId,
    kind::Kind,
    limits::{TICKET_BYTES_MAX, TICKET_LIFE},
    read::ReadError,
    scan::ScanRequest,
    time::{Clock, SystemClock, Timestamp},
};

const MAGIC: &[u8; 8] = b"ANNALST1";
const EXPIRES_AT: usize = MAGIC.len();
const QUERY_AT: usize = EXPIRES_AT + 8;
const SCAN_AT: usize = QUERY_AT + 16;
const SEAL_BYTES: usize = 32;
/// JSON may be written in less bytes than it is given back in.
const SEALED_BYTES_MAX: usize = 2 * TICKET_BYTES_MAX;

/// What all endpoints of a `GetFlightInfo` have in common.
pub(super) type QueryId = Uuid;

/// Seals tickets, and opens them.
#[derive(Clone)]
pub(super) struct Tickets {
    seal: Hmac<Sha256>,
}

/// A ticket, opened.
#[derive(Debug, PartialEq)]
pub(super) enum Ticket {
    Scan {
        scan: Box<ScanRequest>,
        /// `None`: it was typed.
        query: Option<QueryId>,
    },
    Sql(SqlTicket),
}

/// A ticket whose seal is right.
#[derive(Debug, PartialEq)]
pub(super) struct Sealed {
    pub(super) scan: ScanRequest,
    pub(super) query: QueryId,
    pub(super) expires_at: Timestamp,
}

impl Sealed {
    /// A ticket that can be used from now on for as long as tickets can.
    pub(super) fn new(scan: ScanRequest, query: QueryId) -> Self {
        let life = i64::try_from(TICKET_LIFE.as_micros()).unwrap_or(i64::MAX);
        let expires_at = SystemClock.now().as_micros().saturating_add(life);
        Self {
            scan,
            query,
            expires_at: Timestamp::from_micros(expires_at).unwrap_or(Timestamp::MAX),
        }
    }

    /// Refuses an expired one.
    pub(super) fn check_time(&self) -> Result<(), Refusal> {
        if self.expires_at > SystemClock.now() {
            return Ok(());
        }
        let told = format!(
            "the ticket expired at {}: ask GetFlightInfo for a new one, or renew it in time with RenewFlightEndpoint",
            self.expires_at
        );
        Err(Refusal::new(Kind::Refused, "TICKET_EXPIRED", told))
    }
}

impl Tickets {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self {
            seal: Hmac::new_from_slice(key).expect("a key may have any length"),
        }
    }

    /// The bytes that a client gets.
    pub(super) fn encode(&self, ticket: &Sealed) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(ticket.expires_at.as_micros().to_le_bytes());
        bytes.extend(ticket.query.as_bytes());
        bytes.extend(ticket.scan.to_json().as_bytes());
        let seal = self.seal.clone().chain_update(&bytes).finalize();
        bytes.extend(seal.into_bytes());
        bytes
    }

    /// What a caller's ticket asks of the log.
    pub(super) fn open(&self, ticket: &[u8], log_id: LogId) -> Result<Ticket, Refusal> {
        if is_typed(ticket) {
            return Ok(match SqlTicket::typed(ticket)? {
                Some(sql) => Ticket::Sql(sql),
                None => Ticket::Scan {
                    scan: Box::new(typed(ticket)?),
                    query: None,
                },
            });
        }
        let ticket = self.verify(ticket, log_id)?;
        ticket.check_time()?;
        Ok(Ticket::Scan {
            scan: Box::new(ticket.scan),
            query: Some(ticket.query),
        })
    }

    /// A ticket that was sealed here for the log, expired or not.
    pub(super) fn verify(&self, ticket: &[u8], log_id: LogId) -> Result<Sealed, Refusal> {
        if is_typed(ticket) {
            return Err(invalid(
                "the ticket was typed: it never expires, and no query stands behind it; end its stream instead",
            ));
        }
        if !ticket.starts_with(MAGIC) {
            return Err(invalid(
                "the ticket is none: it is what GetFlightInfo gives, or JSON like {\"table\": \"events\"}",
            ));
        }
        let altered = || {
            invalid(
                "the ticket was altered, or sealed for another data folder: ask GetFlightInfo for a new one",
            )
        };
        if ticket.len() > SEALED_BYTES_MAX {
            return Err(altered());
        }
        let (content, seal) = ticket
            .split_last_chunk::<SEAL_BYTES>()
            .filter(|(content, _)| content.len() >= SCAN_AT)
            .ok_or_else(altered)?;
        self.seal
            .clone()
            .chain_update(content)
            .verify_slice(seal)
            .map_err(|_| altered())?;
        let expires_at = i64::from_le_bytes(array(&content[EXPIRES_AT..QUERY_AT]));
        let scan = ScanRequest::from_json(&content[SCAN_AT..]).map_err(Refusal::invalid)?;
        match scan.log_id {
            Some(expected) if expected != log_id => Err(ReadError::OtherLog {
                expected,
                found: log_id,
            }
            .into()),
            _ => Ok(Sealed {
                scan,
                query: Uuid::from_bytes(array(&content[QUERY_AT..SCAN_AT])),
                expires_at: Timestamp::from_micros(expires_at).unwrap_or(Timestamp::MIN),
            }),
        }
    }
}

/// A scan in JSON, as a ticket or as a command.
pub(super) fn typed(json: &[u8]) -> Result<ScanRequest, Refusal> {
    check_length(json)?;
    // Of an array, its places would be taken for keys.
    if !is_typed(json) {
        let told = "is no scan: a scan is a JSON object, like {\"table\": \"events\"}";
        return Err(Refusal::invalid(Violations::one("ticket", told)));
    }
    ScanRequest::from_json(json).map_err(Refusal::invalid)
}

pub(super) fn check_length(json: &[u8]) -> Result<(), Refusal> {
    if json.len() <= TICKET_BYTES_MAX {
        return Ok(());
    }
    let told = format!(
        "has {} bytes, the most is {TICKET_BYTES_MAX}: divide the scan into several",
        json.len()
    );
    Err(Refusal::invalid(Violations::one("ticket", told)))
}

fn is_typed(ticket: &[u8]) -> bool {
    ticket.trim_ascii_start().starts_with(b"{")
}

fn invalid(told: &str) -> Refusal {
    Refusal::new(Kind::Invalid, "INVALID_TICKET", told)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> LogId {
        LogId::from_bytes([1; 16])
    }

    fn tickets(key: u8) -> Tickets {
        Tickets::new(&[key; 32])
    }

    fn scan() -> ScanRequest {
        ScanRequest {
            columns: vec!["position".to_owned()],
            after: 5,
            through: Some(9),
            log_id: Some(log()),
            ..ScanRequest::default()
        }
    }

    fn reason(refused: Result<Ticket, Refusal>) -> String {
        let status = refused.expect_err("it is refused").into_status();
        let details = tonic_types::StatusExt::get_details_error_info(&status);
        format!("{:?} {}", status.code(), details.unwrap().reason)
    }

    #[test]
    fn a_sealed_ticket_is_opened_and_no_other() {
        let query = QueryId::from_u128(7);
        let bytes = tickets(1).encode(&Sealed::new(scan(), query));
        let opened = Ticket::Scan {
            scan: Box::new(scan()),
            query: Some(query),
        };
        assert_eq!(tickets(1).open(&bytes, log()).unwrap(), opened);
        assert_eq!(
            reason(tickets(2).open(&bytes, log())),
            "InvalidArgument INVALID_TICKET"
        );
        assert_eq!(
            reason(tickets(1).open(&bytes, LogId::from_bytes([2; 16]))),
            "FailedPrecondition OTHER_LOG"
        );
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let reason = reason(tickets(1).open(&altered, log()));
            assert_eq!(reason, "InvalidArgument INVALID_TICKET", "byte {at}");
            let reason = self::reason(tickets(1).open(&bytes[..at], log()));
            assert_eq!(reason, "InvalidArgument INVALID_TICKET", "{at} bytes");
        }
    }

    #[test]
    fn a_ticket_ends_with_its_time() {
        let mut ticket = Sealed::new(scan(), QueryId::nil());
        ticket.expires_at = SystemClock.now();
        let bytes = tickets(1).encode(&ticket);
        assert_eq!(
            reason(tickets(1).open(&bytes, log())),
            "FailedPrecondition TICKET_EXPIRED"
        );
        assert_eq!(tickets(1).verify(&bytes, log()).unwrap(), ticket);
    }

    #[test]
    fn a_typed_ticket_needs_no_seal() {
        let opened = tickets(1).open(br#" {"after": 5}"#, log()).unwrap();
        let scan = Box::new(ScanRequest {
            after: 5,
            ..ScanRequest::default()
        });
        assert_eq!(opened, Ticket::Scan { scan, query: None });
        let long = format!("{{{}}}", " ".repeat(TICKET_BYTES_MAX));
        for wrong in ["{", r#"{"a": 1}"#, &long] {
            let reason = reason(tickets(1).open(wrong.as_bytes(), log()));
            assert_eq!(reason, "InvalidArgument INVALID_REQUEST");
        }
        assert_eq!(
            reason(tickets(1).open(b"", log())),
            "InvalidArgument INVALID_TICKET"
        );
    }
}
