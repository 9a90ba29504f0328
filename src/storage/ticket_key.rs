//! `ticket.key`: 32 random bytes that tickets of tables are sealed with, so that a ticket holds across a restart.
//!
//! Made once, beside the name, synced and renamed, and readable for the server's user alone. The bytes say nothing of
//! themselves, so that only a file of another length is known to be none: it is made anew, and what was sealed with the
//! old one is refused, which costs its holder a question for a new ticket.
//!
//! Not here: what is sealed, and how (`service/flight`).

use std::{io, path::Path};

use tracing::warn;

use super::disk::Disk;

const NAME: &str = "ticket.key";

pub(crate) const KEY_BYTES: usize = 32;

/// The key of a folder; made if there is none.
pub(crate) fn read_or_make(disk: &dyn Disk, dir: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let path = dir.join(NAME);
    match disk.open(&path).and_then(|file| file.read_all()) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => return Ok(key),
            Err(other) => {
                let bytes = other.len();
                warn!(path = %path.display(), bytes, "the ticket key is none, making another: tickets given out are refused");
            }
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).expect("the operating system gives random numbers");
    let new = dir.join("ticket.key.new");
    let file = disk.create_private(&new)?;
    file.write_all_at(&key, 0)?;
    file.sync_data()?;
    disk.rename(&new, &path)?;
    disk.sync_dir(dir)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::storage::disk::RealDisk;

    #[test]
    fn a_folder_keeps_its_key_and_shows_it_to_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let made = read_or_make(&RealDisk, dir.path()).unwrap();
        let read = read_or_make(&RealDisk, dir.path()).unwrap();
        assert_eq!(made, read);
        let metadata = fs::metadata(dir.path().join(NAME)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = tempfile::tempdir().unwrap();
        let other = read_or_make(&RealDisk, other.path()).unwrap();
        assert_ne!(made, other);
    }

    #[test]
    fn a_key_of_another_length_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in [&b""[..], &[7; 31], &[7; 33]] {
            fs::write(dir.path().join(NAME), damaged).unwrap();
            let key = read_or_make(&RealDisk, dir.path()).unwrap();
            assert_eq!(read_or_make(&RealDisk, dir.path()).unwrap(), key);
            assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), key);
        }
    }
}
