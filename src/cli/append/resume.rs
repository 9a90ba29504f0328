//! Going on with a file that was appended in part: ids that follow from its content, and what to do about batches that
//! stand in the log in part.

use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::Xxh3;

use super::{Tally, lines::Chunk};
use crate::{
    client::{Client, ClientError},
    types::{append::Batch, kind::Kind},
};

/// Makes the id of each line from its bytes and all lines before it: UUIDv8 of a chain of XXH3-128 hashes.
///
/// So a second run of the same file makes the same ids, whatever the batch size, also after the file has grown; and two
/// files share ids only as far as they begin alike. The hash need not be strong: an id found with other content is
/// refused by the server.
#[derive(Debug, Default)]
pub(super) struct IdChain {
    so_far: u128,
}

impl IdChain {
    /// The id of the next line.
    pub(super) fn next(&mut self, line: &[u8]) -> Uuid {
        let mut hash = Xxh3::new();
        hash.update(&self.so_far.to_le_bytes());
        hash.update(line);
        self.so_far = hash.digest128();
        Builder::from_custom_bytes(self.so_far.to_be_bytes()).into_uuid()
    }
}

/// Appends the events of a chunk that are not in the log yet, in their order.
///
/// The server takes a repeat only if all of its events stand there side by side. A chunk of which only some do is
/// refused as a whole and so halved until each part is old or new: about 2 log₂ n calls for each border between old and
/// new. One chunk at a time, since a later one that went ahead would stand before this one's second half.
pub(super) async fn append_missing(
    client: &Client,
    chunk: Chunk,
    tally: &mut Tally,
) -> Result<(), (Chunk, ClientError)> {
    let mut parts = vec![chunk];
    while let Some(mut part) = parts.pop() {
        match client.append(&part.batch).await {
            Ok(appended) => tally.add(&part, &appended),
            Err(error) if is_partly_there(&error) && part.lines.len() > 1 => {
                let middle = part.lines.len() / 2;
                let second = Chunk {
                    lines: part.lines.split_off(middle),
                    batch: Batch::new(part.batch.events.split_off(middle)),
                };
                parts.push(second);
                parts.push(part);
            }
            Err(error) => return Err((part, error)),
        }
    }
    Ok(())
}

fn is_partly_there(error: &ClientError) -> bool {
    error.kind() == Kind::AlreadyExists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_content_so_far() {
        let ids = |lines: &[&str]| {
            let mut chain = IdChain::default();
            lines
                .iter()
                .map(|line| chain.next(line.as_bytes()))
                .collect::<Vec<_>>()
        };
        let (first, again) = (ids(&["a", "b", "c"]), ids(&["a", "b", "c", "d"]));
        assert_eq!(first, again[..3]);
        let (left, right) = (ids(&["a", "b", "c"]), ids(&["x", "b", "c"]));
        assert!(left.iter().zip(&right).all(|(a, b)| a != b));
        let same = ids(&["a", "a", "a"]);
        assert!(same[0] != same[1] && same[1] != same[2]);
    }

    #[test]
    fn ids_stay_what_they_are() {
        // Files that were appended in part with an earlier release must go on with a later one.
        let id = IdChain::default().next(br#"{"entity_id":"e","event_type":"t","payload":1}"#);
        assert_eq!(id.get_version_num(), 8);
        assert_eq!(id.to_string(), "25eed969-0464-841a-a9fb-85beea48c920");
    }
}
