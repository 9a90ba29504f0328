//! Names of logs and tenants, and the numbers that place events in them.

use std::{fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

/// The place of an event in its tenant's log: 1, 2, 3, … without gaps. 0 is the place before the first.
pub type Position = u64;

/// The place of an event in its entity's stream: 1, 2, 3, … without gaps. 0 is the place before the first.
pub type Version = u64;

/// One incarnation of a log, made with it. Positions mean something only together with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(Uuid);

impl LogId {
    /// From its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LogId {
    type Err = InvalidLogId;

    fn from_str(text: &str) -> Result<Self, InvalidLogId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidLogId)
    }
}

/// The text is no log id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a log id is a UUID, as the server returned it")]
pub struct InvalidLogId;

/// A namespace with a log of its own: `[a-z0-9][a-z0-9_-]{0,62}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant meant where none is named.
    pub const DEFAULT: &str = "default";
    const BYTES_MAX: usize = 63;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl TryFrom<&str> for TenantId {
    type Error = InvalidTenantId;

    fn try_from(name: &str) -> Result<Self, InvalidTenantId> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let (first, rest) = name.as_bytes().split_first().ok_or(InvalidTenantId)?;
        let valid = name.len() <= Self::BYTES_MAX
            && plain(*first)
            && rest.iter().all(|&b| plain(b) || b == b'_' || b == b'-');
        if valid {
            Ok(Self(name.into()))
        } else {
            Err(InvalidTenantId)
        }
    }
}

impl FromStr for TenantId {
    type Err = InvalidTenantId;

    fn from_str(name: &str) -> Result<Self, InvalidTenantId> {
        Self::try_from(name)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no tenant name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tenant name is 1 to 63 of the characters a-z, 0-9, `_` and `-`, and starts with a letter or digit"
)]
pub struct InvalidTenantId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_are_lower_case_words() {
        for name in ["a", "0", "default", "a-b_c9", &"x".repeat(63)] {
            assert_eq!(TenantId::try_from(name).unwrap().as_str(), name);
        }
        for name in [
            "",
            "-a",
            "_a",
            "A",
            "a/b",
            "..",
            "a b",
            "ä",
            &"x".repeat(64),
        ] {
            assert_eq!(TenantId::try_from(name), Err(InvalidTenantId), "{name}");
        }
    }
}
