//! [`Engine::verify`] and [`Engine::repair`]: of a folder that nobody serves.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    repair::{self, RepairOptions, Repaired},
    verify::{self, Told, Verified},
};
use crate::{
    engine::{Engine, EngineOptions, OpenError, lock_dir, lock_failed},
    storage::{
        disk::{Disk, ReadOnlyDisk, RealDisk},
        lock,
    },
    types::{hash::KeyHasher, id::TenantId},
};

impl Engine {
    /// Reads every file of a folder that nobody serves, or those of one tenant, checks every checksum, and compares what
    /// its forms say of the same events. Changes nothing, and need not be allowed to; waits for the disk. `tell` hears of
    /// progress and of every fault.
    ///
    /// # Errors
    /// Another process works on the folder, there is no such tenant, or the disk refuses; damage is told, and no error.
    pub fn verify(
        dir: &Path,
        tenant: Option<&TenantId>,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Verified, OpenError> {
        let disk = Arc::new(ReadOnlyDisk) as Arc<dyn Disk>;
        Self::verify_on(&disk, dir, tenant, KeyHasher::default(), tell)
    }

    /// [`Engine::verify`] on another disk, of keys hashed otherwise.
    pub fn verify_on(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        tenant: Option<&TenantId>,
        hasher: KeyHasher,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Verified, OpenError> {
        let failed = |e: io::Error| OpenError::io("verifying", dir, &e);
        let tenants_dir = existing_tenants_dir(&**disk, dir).map_err(failed)?;
        let _lock = lock::lock_to_read(&**disk, dir).map_err(|error| lock_failed(dir, error))?;
        let dirs = verify::tenant_dirs(disk, &tenants_dir, tenant).map_err(failed)?;
        verify::verify(disk, &dirs, hasher, tell).map_err(failed)
    }

    /// Verifies a folder that nobody serves, or one tenant of it, and makes what is damaged or missing anew from another
    /// form of the same events; see [`upkeep::repair`](repair). Waits for the disk. `tell` hears of progress, and of what
    /// was found and done.
    ///
    /// # Errors
    /// Another process works on the folder, there is no such tenant, or the disk refuses; what cannot be repaired is told,
    /// and no error.
    pub fn repair(
        dir: &Path,
        tenant: Option<&TenantId>,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Repaired, OpenError> {
        let disk = Arc::new(RealDisk) as Arc<dyn Disk>;
        Self::repair_on(&disk, dir, tenant, &EngineOptions::default(), tell)
    }

    /// [`Engine::repair`] on another disk, of a store that works so.
    pub fn repair_on(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        tenant: Option<&TenantId>,
        options: &EngineOptions,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Repaired, OpenError> {
        let failed = |e: io::Error| OpenError::io("repairing", dir, &e);
        let tenants_dir = existing_tenants_dir(&**disk, dir).map_err(failed)?;
        let _lock = lock_dir(&**disk, dir)?;
        let dirs = verify::tenant_dirs(disk, &tenants_dir, tenant).map_err(failed)?;
        let options = RepairOptions {
            hasher: options.hasher,
            limits: &options.limits,
        };
        repair::repair(disk, &dirs, options, tell).map_err(failed)
    }
}

/// The tenants' folder in a data directory that is there. Asked for before the directory is locked, which makes a file in
/// it.
fn existing_tenants_dir(disk: &dyn Disk, dir: &Path) -> io::Result<PathBuf> {
    let tenants_dir = dir.join("tenants");
    match disk.list(&tenants_dir) {
        Ok(_) => Ok(tenants_dir),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let what = "it is no data directory: there is no folder `tenants` in it";
            Err(io::Error::new(e.kind(), what))
        }
        Err(e) => Err(verify::unread(&tenants_dir, &e)),
    }
}
