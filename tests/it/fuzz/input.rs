//! What decoders are given.

use std::{fs, path::Path};

use annals::storage::log::{
    file::{FileHeader, HEADER_BYTES},
    frame::Frame,
    row::Row,
};

use super::super::fixtures::folder;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Frame,
    Row,
    Header,
}

/// Bytes for one of the decoders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) kind: Kind,
    /// The salt of a frame's file, or the position of a row.
    pub(super) salt: u64,
    pub(super) bytes: Vec<u8>,
}

impl Input {
    /// The header of a log file, its frames and their rows.
    pub(super) fn all_of(file: &[u8]) -> Vec<Self> {
        let input = |kind, salt, bytes: &[u8]| Self {
            kind,
            salt,
            bytes: bytes.to_vec(),
        };
        let mut all = vec![input(Kind::Header, 0, &file[..HEADER_BYTES])];
        let (salt, frames) = folder::frames(file);
        for frame in frames {
            all.push(input(Kind::Frame, salt, frame.as_bytes()));
            let mut rest = frame.rows().to_vec();
            for position in (frame.first_position()..).take(frame.events() as usize) {
                let row = Row::check(rest.clone().into(), position).unwrap();
                let row = row.as_bytes();
                all.push(input(Kind::Row, position, row));
                rest.drain(..row.len());
            }
        }
        all
    }

    /// From a file of the corpus: kind, salt, bytes.
    pub(super) fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let kind = match file[0] {
            b'f' => Kind::Frame,
            b'r' => Kind::Row,
            b'h' => Kind::Header,
            other => panic!("{}: unknown kind {other}", path.display()),
        };
        Self {
            kind,
            salt: u64::from_le_bytes(file[1..9].try_into().unwrap()),
            bytes: file[9..].to_vec(),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Frame => b'f',
            Kind::Row => b'r',
            Kind::Header => b'h',
        };
        let mut file = vec![kind];
        file.extend_from_slice(&self.salt.to_le_bytes());
        file.extend_from_slice(&self.bytes);
        file
    }

    /// A name in the corpus.
    pub(super) fn name(&self) -> String {
        let kind = format!("{:?}", self.kind).to_lowercase();
        format!("{kind}-{:08x}", crc32c::crc32c(&self.to_bytes()))
    }

    pub(super) fn is_accepted(&self) -> bool {
        match self.kind {
            Kind::Frame => Frame::check(&self.bytes, self.salt).is_ok(),
            Kind::Row => Row::check(self.bytes.clone().into(), self.salt).is_ok(),
            Kind::Header => FileHeader::decode(&self.bytes).is_ok(),
        }
    }
}
