//! Reads a log without opening it: every file that is there is checked, and nothing is changed.

use std::{io, sync::Arc};

use super::{
    file,
    recovery::{
        Chain, RecoverError, SeenFrame, check_last, damage, missing, open_file, read_file,
        recover_full, see_frames,
    },
    writer::{LogFile, LogPlace},
};
use crate::{storage::manifest::Manifest, types::read::Damage};

/// Reads every log file that is there, sealed or not, and changes nothing. Says how many bytes each one has once it was
/// read, and tells every fault; behind one it goes on with the next file.
pub(crate) fn inspect(
    place: &LogPlace,
    manifest: &Manifest,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
    read: &mut dyn FnMut(u64),
    tell: &mut dyn FnMut(Damage),
) -> io::Result<()> {
    let disk = &place.disk;
    let mut tell_error = |error: RecoverError| match error {
        RecoverError::Damaged(damage) => {
            tell(damage);
            Ok(())
        }
        RecoverError::TooNew { path, what } => {
            tell(Damage {
                path,
                offset: 0,
                what: format!("a newer version wrote it: {what}"),
            });
            Ok(())
        }
        RecoverError::Io { path, error, .. } => {
            Err(io::Error::other(format!("{}: {error}", path.display())))
        }
    };
    let mut names = disk.list(&place.log_dir)?;
    names.retain(|name| file::base_offset_of(name).is_some());
    names.sort_unstable_by_key(|name| file::base_offset_of(name));
    let newest = names.last().and_then(|name| file::base_offset_of(name));
    if newest != Some(manifest.newest_file) {
        let what = "the newest log file that the manifest names is not there";
        tell_error(missing(place, what))?;
    }
    let mut files = Vec::new();
    for name in &names {
        let base_offset = file::base_offset_of(name).unwrap_or_default();
        match open_file(place, manifest, base_offset, place.log_dir.join(name)) {
            Ok(file) => files.push(Arc::new(file)),
            Err(error) => tell_error(error)?,
        }
    }
    let sealed_through = manifest.sealed.through();
    let starts_late = |file: &Arc<LogFile>| file.header.first_position > sealed_through.max(1);
    if let Some(first) = files.first().filter(|file| starts_late(file)) {
        let what =
            format!("the segments end at position {sealed_through}, and the log begins here");
        tell_error(damage(first, 0, &what).into())?;
    }
    let mut chain = files.first().map(|file| Chain::at(&file.header));
    for (index, file) in files.iter().enumerate() {
        let mut here = chain.take().unwrap_or_else(|| Chain::at(&file.header));
        let done = match files.get(index + 1) {
            Some(next) => recover_full(file, &next.header, &mut here, see),
            None => inspect_last(file, manifest, &mut here, see),
        };
        match done {
            Ok(()) => chain = Some(here),
            Err(error) => tell_error(error)?,
        }
        read(file.file.bytes()?);
    }
    Ok(())
}

fn inspect_last(
    file: &Arc<LogFile>,
    manifest: &Manifest,
    chain: &mut Chain,
    see: &mut dyn FnMut(&SeenFrame<'_>) -> Result<(), RecoverError>,
) -> Result<(), RecoverError> {
    chain.check_header(file)?;
    let bytes = read_file(file)?;
    let end = check_last(file, &bytes, manifest.durable_offset, chain)?;
    see_frames(file, &bytes[..end], see)
}
