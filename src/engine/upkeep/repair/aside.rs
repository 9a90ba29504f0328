//! `damaged/` in a tenant's folder: copies of files that were found damaged, before another takes their place. Nobody
//! reads them but people; they may be removed.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::storage::disk::Disk;

const DIR: &str = "damaged";
const READ_BYTES: usize = 1 << 20;

/// Copies a file of a tenant's folder, durably, and returns where to; `None` if it is not there. The file stays.
pub(super) fn keep(disk: &dyn Disk, tenant_dir: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let original = match disk.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        original => original?,
    };
    let dir = tenant_dir.join(DIR);
    disk.make_dir(&dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let present = disk.list(&dir)?;
    // Every damage is kept, that of the files which were put in the place of damaged ones, too.
    let numbered = (2..).map(|number: u64| format!("{name}.{number}"));
    let name = std::iter::once(name.clone().into_owned())
        .chain(numbered)
        .find(|name| !present.contains(name))
        .unwrap_or_default();
    let (new, kept) = (dir.join(format!("{name}.new")), dir.join(name));
    let copy = disk.create(&new)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    loop {
        match original.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(read) => {
                copy.write_all_at(&buffer[..read], at)?;
                at += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    copy.sync_data()?;
    disk.rename(&new, &kept)?;
    disk.sync_dir(&dir)?;
    Ok(Some(kept))
}
