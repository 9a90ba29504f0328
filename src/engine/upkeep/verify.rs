//! Reads every file of a store, checks every checksum, and compares what its forms say of the same events: rows of the
//! log, segments, index runs. Changes nothing.
//!
//! - `verify`: all tenants of a folder that nobody serves; `served`: one that is open.
//! - `stored`: what is read of a tenant, for both of them and for `repair`; `sums`: how forms are compared.
//!
//! Forms are compared by sums of hashes, one for each segment and each run, so that memory does not grow with the
//! number of events. Where a file cannot be read, what it should agree with is not blamed.

pub mod served;
pub(super) mod stored;
mod sums;

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use self::stored::Stored;
use crate::{
    storage::{
        disk::Disk,
        log::writer::{self, LogPlace},
        manifest::{Manifest, ManifestError},
    },
    types::{
        hash::KeyHasher,
        id::TenantId,
        read::{Damage, ReadError},
    },
};

/// What verifying has to say on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// So many more bytes of files will be read.
    Bytes(u64),
    /// So many more of them were.
    Read(u64),
    /// Something is wrong.
    Fault(Damage),
    /// Something that was wrong was repaired.
    Repaired(Outcome),
    /// Something that is wrong, or was lost with what is wrong, cannot be repaired.
    Lost(Outcome),
}

/// What became of a file that was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which file.
    pub path: PathBuf,
    /// What was done; or what is lost, and what to do.
    pub what: String,
}

/// What was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tenants looked at.
    pub tenants: u64,
    /// Files that could be read.
    pub files: u64,
    /// Events found, in whichever form.
    pub events: u64,
    /// Things that are wrong.
    pub faults: u64,
}

/// Verifies the tenants of these folders. Index runs are those of `hasher`.
pub(super) fn verify(
    disk: &Arc<dyn Disk>,
    dirs: &[PathBuf],
    hasher: KeyHasher,
    tell: &mut dyn FnMut(Told),
) -> io::Result<Verified> {
    let mut report = Report::new(tell, &|| false);
    let mut tenants = Vec::new();
    for dir in dirs {
        match found(disk, dir)? {
            Found::Manifest(manifest) => {
                let place = LogPlace::new(Arc::clone(disk), dir, 0);
                tenants.push(Stored::closed(place, manifest, hasher));
            }
            Found::Nothing => {}
            Found::Unreadable(damage) | Found::TooNew(damage) => {
                report.verified.tenants += 1;
                report.fault(damage);
            }
        }
    }
    for tenant in &tenants {
        let bytes = tenant.bytes()?;
        report.tell(Told::Bytes(bytes));
    }
    for tenant in &tenants {
        tenant.verify(&mut report)?;
    }
    Ok(report.verified)
}

/// The folders of all tenants, sorted, or that of one.
///
/// # Errors
/// There is no such tenant.
pub(super) fn tenant_dirs(
    disk: &Arc<dyn Disk>,
    tenants_dir: &Path,
    tenant: Option<&TenantId>,
) -> io::Result<Vec<PathBuf>> {
    if let Some(tenant) = tenant {
        let dir = tenants_dir.join(tenant.as_str());
        if !is_folder(&**disk, &dir)? || matches!(found(disk, &dir)?, Found::Nothing) {
            let what = format!("there is no tenant `{tenant}`");
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        return Ok(vec![dir]);
    }
    let mut names = disk.list(tenants_dir)?;
    names.sort_unstable();
    let mut dirs = Vec::with_capacity(names.len());
    for name in names {
        let dir = tenants_dir.join(&name);
        // Others are none of ours.
        if TenantId::try_from(name.as_str()).is_ok() && is_folder(&**disk, &dir)? {
            dirs.push(dir);
        }
    }
    Ok(dirs)
}

fn is_folder(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.list(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) => Ok(false),
        Err(e) => Err(unread(path, &e)),
    }
}

/// The error with the file that it is about, and what to do.
pub(super) fn unread(path: &Path, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => "; do it as the user that the server runs as",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{}: {error}{advice}", path.display()))
}

/// What stands in a tenant's folder.
pub(super) enum Found {
    Manifest(Manifest),
    /// No tenant.
    Nothing,
    /// A tenant, without a manifest that can be read.
    Unreadable(Damage),
    /// A newer version wrote the manifest.
    TooNew(Damage),
}

pub(super) fn found(disk: &Arc<dyn Disk>, dir: &Path) -> io::Result<Found> {
    let damage = |what: String| Damage {
        path: dir.join("manifest"),
        offset: 0,
        what,
    };
    match Manifest::read(&**disk, dir) {
        Ok(Some(manifest)) => return Ok(Found::Manifest(manifest)),
        Ok(None) => {}
        Err(ManifestError::Damaged(damage)) => return Ok(Found::Unreadable(damage)),
        Err(ManifestError::TooNew(what)) => {
            let what = format!("a newer version wrote it: {what}");
            return Ok(Found::TooNew(damage(what)));
        }
        Err(ManifestError::Io(error)) => return Err(unread(&dir.join("manifest"), &error)),
    }
    let place = LogPlace::new(Arc::clone(disk), dir, 0);
    let file = writer::file_with_events(&place).map_err(|error| unread(dir, &error))?;
    Ok(match file {
        // Other files are what is left of a tenant that was never made.
        None => Found::Nothing,
        Some(file) => {
            let what = format!(
                "it is gone, but {} is there: nothing else of the tenant was verified",
                file.display()
            );
            Found::Unreadable(damage(what))
        }
    })
}

/// What was found so far, and who hears of it.
pub(super) struct Report<'a> {
    pub(super) verified: Verified,
    tell: &'a mut dyn FnMut(Told),
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Report<'a> {
    /// `stop` is asked now and then whether to give up.
    pub(super) fn new(tell: &'a mut dyn FnMut(Told), stop: &'a dyn Fn() -> bool) -> Self {
        Self {
            verified: Verified::default(),
            tell,
            stop,
        }
    }

    pub(super) fn tell(&mut self, told: Told) {
        (self.tell)(told);
    }

    pub(super) fn fault(&mut self, damage: Damage) {
        self.verified.faults += 1;
        self.tell(Told::Fault(damage));
    }

    fn fault_in(&mut self, path: &Path, what: impl Into<String>) {
        self.fault(Damage {
            path: path.to_owned(),
            offset: 0,
            what: what.into(),
        });
    }

    /// Tells why a file cannot be read; what is no damage of it ends everything.
    fn unread(&mut self, path: &Path, error: ReadError) -> io::Result<()> {
        match error {
            ReadError::Damaged(damage) => self.fault(damage),
            ReadError::Io { path, reason, .. } => {
                return Err(io::Error::other(format!("{}: {reason}", path.display())));
            }
            other => self.fault_in(path, other.to_string()),
        }
        Ok(())
    }

    /// A file was read, of which so many bytes were not told yet.
    fn read_file(&mut self, bytes: u64) {
        self.verified.files += 1;
        self.tell(Told::Read(bytes));
    }

    fn go_on(&self) -> io::Result<()> {
        if (self.stop)() {
            Err(io::Error::other("it was given up"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
