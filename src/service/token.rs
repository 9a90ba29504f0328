//! Page tokens: where a listing goes on. Opaque to clients; the server keeps nothing.
//!
//! A token holds what the listing was asked for (hashed), the log it was read from, the head that every page shows, and
//! the last name told. It is refused where any of the first two is not what the request says, so that a page of one
//! listing never continues another. It is not secret and not signed: a forged one shows only what its forger may list.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use xxhash_rust::xxh3::Xxh3;

use crate::types::{
    append::Violations,
    id::{LogId, Position},
    limits::NAME_BYTES_MAX,
    text::Text,
};

const FORM: u8 = 1;
const FIXED_BYTES: usize = 1 + 8 + 16 + 8;
/// Longest token that is decoded: what the longest name makes, in base64.
const TEXT_BYTES_MAX: usize = (FIXED_BYTES + NAME_BYTES_MAX).div_ceil(3) * 4;

/// Which listing a token belongs to.
pub(super) struct Scope<'a> {
    /// The call.
    pub(super) call: &'static str,
    /// The tenant asked.
    pub(super) tenant: &'a str,
    /// What names start with.
    pub(super) prefix: &'a str,
    /// The log asked.
    pub(super) log_id: LogId,
}

impl Scope<'_> {
    fn hash(&self) -> u64 {
        let mut hasher = Xxh3::new();
        for part in [self.call, self.tenant, self.prefix] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.digest()
    }
}

/// Where a listing goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageToken {
    /// The head of the first page.
    pub(super) head: Position,
    /// The last name of the page before.
    pub(super) after: Text,
}

impl PageToken {
    pub(super) fn encode(&self, scope: &Scope<'_>) -> String {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.after.as_bytes().len());
        bytes.push(FORM);
        bytes.extend(scope.hash().to_le_bytes());
        bytes.extend(scope.log_id.as_bytes());
        bytes.extend(self.head.to_le_bytes());
        bytes.extend(self.after.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(super) fn decode(text: &str, scope: &Scope<'_>) -> Result<Self, Violations> {
        let wrong = |told: &str| Violations::one("page_token", told);
        let unreadable = || wrong("is not one that this server made: start from the first page");
        if text.len() > TEXT_BYTES_MAX {
            return Err(unreadable());
        }
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| unreadable())?;
        let mut rest = bytes.as_slice();
        let [form] = take(&mut rest).ok_or_else(unreadable)?;
        let hash = take(&mut rest).ok_or_else(unreadable)?;
        let log_id = take(&mut rest).ok_or_else(unreadable)?;
        let head = take(&mut rest).ok_or_else(unreadable)?;
        if form != FORM {
            return Err(unreadable());
        }
        if LogId::from_bytes(log_id) != scope.log_id {
            return Err(wrong("belongs to another log: start from the first page"));
        }
        if u64::from_le_bytes(hash) != scope.hash() {
            return Err(wrong(
                "belongs to another listing: keep tenant and prefix, or start from the first page",
            ));
        }
        let after = std::str::from_utf8(rest).map_err(|_| unreadable())?;
        Ok(Self {
            head: u64::from_le_bytes(head),
            after: after.into(),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(prefix: &str, log: u8) -> Scope<'_> {
        Scope {
            call: "ListEntities",
            tenant: "default",
            prefix,
            log_id: LogId::from_bytes([log; 16]),
        }
    }

    #[test]
    fn a_token_goes_on_only_with_its_own_listing() {
        let token = PageToken {
            head: 7,
            after: "case-9".into(),
        };
        let text = token.encode(&scope("case-", 1));
        assert_eq!(PageToken::decode(&text, &scope("case-", 1)), Ok(token));
        assert!(PageToken::decode(&text, &scope("case", 1)).is_err());
        assert!(PageToken::decode(&text, &scope("case-", 2)).is_err());
        for text in ["", "A", "!!!!", &text[..20], &"A".repeat(5_000)] {
            assert!(
                PageToken::decode(text, &scope("case-", 1)).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn the_longest_name_fits() {
        let token = PageToken {
            head: u64::MAX,
            after: "x".repeat(NAME_BYTES_MAX).into(),
        };
        let text = token.encode(&scope("", 1));
        assert_eq!(PageToken::decode(&text, &scope("", 1)), Ok(token));
    }
}
