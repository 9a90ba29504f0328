//! Behaviour: what it means to append, read and follow. No protobuf and no HTTP; usable in process.
//!
//! - `ingest`: the only door for writes.
//! - `log`: one tenant's log.
//! - [`state`], [`subscription`], [`table`], [`sql`], `analytics`: what is made of it.
//! - [`tenant`]: a tenant, open: the calls.
//!
//! Each may use those before it. Called by `service`, and by programs that embed the store.

#[cfg(feature = "sql")]
mod analytics;
pub mod event;
pub(crate) mod ingest;
mod json;
pub(crate) mod log;
#[cfg(feature = "sql")]
pub mod sql;
pub mod state;
pub mod subscription;
pub mod table;
pub mod tenant;
pub mod upkeep;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    spawn,
    sync::{OnceCell, Semaphore},
    task::spawn_blocking,
};
use uuid::Uuid;

use self::{
    log::{Log, Shared},
    tenant::Tenant,
};
use crate::{
    storage::{
        disk::{Disk, RealDisk},
        lock::{self, DirLock, LockError},
        log::{
            recovery::RecoverError,
            writer::{self, LogPlace},
        },
        manifest::{Manifest, ManifestError},
        ticket_key,
    },
    types::{
        hash::KeyHasher,
        id::{LogId, TenantId},
        kind::Kind,
        limits::Limits,
        read::Damage,
        slot::Partitions,
        time::{Clock, SystemClock},
    },
};

/// How an engine works.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Its bounds.
    pub limits: Limits,
    /// How many partitions entities are divided into.
    pub partitions: Partitions,
    /// Whether an append makes the tenant that it names.
    pub auto_create_tenants: bool,
    /// How keys are hashed.
    pub hasher: KeyHasher,
}

/// An event store in a folder. Cheap to clone; closed when the last clone is dropped.
///
/// ```
/// use annals::{Batch, Engine, EngineOptions, Expect, NewEvent, ReadRequest, TenantId};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let engine = Engine::open(dir, EngineOptions::default())?;
/// let tenant = engine.tenant(&TenantId::default()).await?;
///
/// let event = NewEvent::new("order-42", "order.paid", r#"{"amount": 12.5}"#);
/// let appended = tenant.append(Batch::new([event]).expecting("order-42", Expect::Absent)).await?;
/// assert_eq!(appended.first_position, 1);
///
/// let mut reader = tenant.read(ReadRequest::default())?;
/// while let Some(events) = reader.next().await? {
///     for event in events {
///         assert_eq!(event.payload(), r#"{"amount": 12.5}"#);
///     }
/// }
/// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    tenants_dir: PathBuf,
    options: EngineOptions,
    shared: Shared,
    room: Arc<Semaphore>,
    #[cfg(feature = "sql")]
    sql: sql::Workers,
    /// Those that were asked for; empty cells are being opened.
    open: Mutex<HashMap<TenantId, Arc<OnceCell<Tenant>>>>,
    closing: AtomicBool,
    _lock: DirLock,
}

/// Why a folder or a tenant in it could not be opened. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process works on it.
    #[error("{} is in use by process {holder}: stop it, or choose another folder", dir.display())]
    Locked {
        /// The data folder.
        dir: PathBuf,
        /// The process id that the lock file names.
        holder: String,
    },
    /// What was written and acknowledged is not there any more.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A newer version of the store wrote it.
    #[error("{} was written by a newer version: {what}; use that version", path.display())]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// What is not known.
        what: String,
    },
    /// The disk refused.
    #[error("{doing} {}: {reason}", path.display())]
    Io {
        /// What was done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
}

impl OpenError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Locked { .. } | Self::Io { .. } => Kind::Unavailable,
            Self::Damaged(_) => Kind::Corrupt,
            Self::TooNew { .. } => Kind::Refused,
        }
    }

    fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }
}

impl From<RecoverError> for OpenError {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Damaged(damage) => Self::Damaged(damage),
            RecoverError::TooNew { path, what } => Self::TooNew { path, what },
            RecoverError::Io { path, doing, error } => Self::io(doing, &path, &error),
        }
    }
}

/// Why there is no such tenant to work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// It was never made.
    #[error(
        "there is no tenant `{0}`: create it, or let appends do it with tenants.auto_create = true"
    )]
    NoSuchTenant(TenantId),
    /// It is there.
    #[error("there is a tenant `{0}` already")]
    AlreadyExists(TenantId),
    /// Too many are open.
    #[error("{max} tenants are open, which is the limit: raise limits.tenants_open_max")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The engine is closed.
    #[error("the server is shutting down: retry elsewhere or later")]
    ShuttingDown,
}

impl TenantError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSuchTenant(_) => Kind::NotFound,
            Self::AlreadyExists(_) => Kind::AlreadyExists,
            Self::TooMany { .. } => Kind::Exhausted,
            Self::Open(error) => error.kind(),
            Self::ShuttingDown => Kind::Unavailable,
        }
    }

    /// A stable name for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchTenant(_) => "NO_SUCH_TENANT",
            Self::AlreadyExists(_) => "TENANT_EXISTS",
            Self::TooMany { .. } => "TOO_MANY_TENANTS",
            Self::Open(_) => "TENANT_NOT_OPEN",
            Self::ShuttingDown => "SHUTTING_DOWN",
        }
    }
}

/// Where a tenant comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Found,
    Made,
}

/// Whether a tenant is made if it is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refuse,
    Create,
}

impl Engine {
    /// Opens a folder, and makes it and the tenant `default` if they are not there. Waits for the disk.
    pub fn open(dir: impl Into<PathBuf>, options: EngineOptions) -> Result<Self, OpenError> {
        Self::open_with(Arc::new(RealDisk), Arc::new(SystemClock), dir, options)
    }

    /// [`Engine::open`] on another disk and clock.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        dir: impl Into<PathBuf>,
        options: EngineOptions,
    ) -> Result<Self, OpenError> {
        let dir = dir.into();
        let tenants_dir = dir.join("tenants");
        let failed = |e: io::Error| OpenError::io("opening", &dir, &e);
        disk.make_dir(&dir).map_err(failed)?;
        let lock = lock_dir(&*disk, &dir)?;
        disk.make_dir(&tenants_dir).map_err(failed)?;
        let shared = Shared::new(&options.limits, clock, options.hasher);
        let room = options.limits.queue_bytes_max.min(Semaphore::MAX_PERMITS);
        let inner = Arc::new(Inner {
            #[cfg(feature = "sql")]
            sql: sql::Workers::new(&shared.limits),
            disk,
            tenants_dir,
            options,
            shared,
            room: Arc::new(Semaphore::new(room)),
            open: Mutex::default(),
            closing: AtomicBool::new(false),
            _lock: lock,
        });
        let id = TenantId::default();
        let default = match inner.open_tenant(&id)? {
            Some(tenant) => tenant,
            None => inner.create_tenant(&id)?,
        };
        inner
            .open
            .lock()
            .insert(id, Arc::new(OnceCell::new_with(Some(default))));
        Ok(Self { inner })
    }

    /// How it works.
    pub fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        let tenants_dir = &self.inner.tenants_dir;
        tenants_dir.parent().unwrap_or(tenants_dir)
    }

    /// What tickets of tables are sealed with: the same after a restart. Made if it is not there; waits for the disk.
    pub(crate) fn ticket_key(&self) -> Result<[u8; ticket_key::KEY_BYTES], OpenError> {
        let dir = self.dir();
        ticket_key::read_or_make(&*self.inner.disk, dir)
            .map_err(|e| OpenError::io("keeping the ticket key in", dir, &e))
    }

    /// The tenants that exist, sorted.
    pub fn tenants(&self) -> Vec<TenantId> {
        let inner = &self.inner;
        let names = inner.disk.list(&inner.tenants_dir).unwrap_or_default();
        let exists = |id: &TenantId| matches!(inner.manifest(id), Ok(Some(_)) | Err(_));
        let ids = names
            .iter()
            .filter_map(|name| TenantId::try_from(name.as_str()).ok());
        let mut ids: Vec<_> = ids.filter(exists).collect();
        ids.sort_unstable();
        ids
    }

    /// A tenant that exists; opened if it is not.
    pub async fn tenant(&self, id: &TenantId) -> Result<Tenant, TenantError> {
        Ok(self.get(id, Missing::Refuse).await?.0)
    }

    /// A tenant to append to; made if it is not there and the options say so.
    pub async fn tenant_for_append(&self, id: &TenantId) -> Result<Tenant, TenantError> {
        let missing = if self.inner.options.auto_create_tenants {
            Missing::Create
        } else {
            Missing::Refuse
        };
        Ok(self.get(id, missing).await?.0)
    }

    /// Makes a tenant.
    pub async fn create_tenant(&self, id: &TenantId) -> Result<Tenant, TenantError> {
        match self.get(id, Missing::Create).await? {
            (tenant, Origin::Made) => Ok(tenant),
            (_, Origin::Found) => Err(TenantError::AlreadyExists(id.clone())),
        }
    }

    async fn get(&self, id: &TenantId, missing: Missing) -> Result<(Tenant, Origin), TenantError> {
        let inner = &self.inner;
        let cell = {
            let mut open = inner.open.lock();
            if let Some(tenant) = open.get(id).and_then(|cell| cell.get()) {
                return Ok((tenant.clone(), Origin::Found));
            }
            if inner.closing.load(Ordering::SeqCst) {
                return Err(TenantError::ShuttingDown);
            }
            let max = inner.options.limits.tenants_open_max;
            if open.len() >= max && !open.contains_key(id) {
                return Err(TenantError::TooMany { max });
            }
            Arc::clone(open.entry(id.clone()).or_default())
        };
        // On a task of its own: were it dropped with its caller, the next one would open the log a second time while a
        // thread is still at it.
        let opening = spawn(open(Arc::clone(inner), id.clone(), cell, missing));
        match opening.await {
            Ok(opened) => opened,
            Err(e) if e.is_cancelled() => Err(TenantError::ShuttingDown),
            Err(e) => std::panic::resume_unwind(e.into_panic()),
        }
    }

    /// Refuses appends from now on; what is queued is still written and answered.
    pub fn refuse_appends(&self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        self.inner
            .for_each_open(|tenant| tenant.log.refuse_appends());
    }

    /// Refuses appends, answers those in flight, and closes the logs cleanly. Waits for the disk. Reads go on.
    pub fn close(&self) {
        self.inner.close();
    }
}

fn lock_dir(disk: &dyn Disk, dir: &Path) -> Result<DirLock, OpenError> {
    lock::lock(disk, dir).map_err(|error| lock_failed(dir, error))
}

fn lock_failed(dir: &Path, error: LockError) -> OpenError {
    match error {
        LockError::Held(holder) => OpenError::Locked {
            dir: dir.to_owned(),
            holder,
        },
        LockError::Io(error) => OpenError::io("locking", &dir.join("annals.lock"), &error),
    }
}

/// Opens a tenant, or waits for whoever does.
async fn open(
    inner: Arc<Inner>,
    id: TenantId,
    cell: Arc<OnceCell<Tenant>>,
    missing: Missing,
) -> Result<(Tenant, Origin), TenantError> {
    let mut origin = Origin::Found;
    let opened = cell
        .get_or_try_init(|| async {
            let (inner, id) = (Arc::clone(&inner), id.clone());
            let work = move || match inner.open_tenant(&id)? {
                Some(tenant) => Ok((tenant, Origin::Found)),
                None if missing == Missing::Create => Ok((inner.create_tenant(&id)?, Origin::Made)),
                None => Err(TenantError::NoSuchTenant(id)),
            };
            let opening = spawn_blocking(work).await;
            let (tenant, its_origin) = opening.expect("opening a tenant does not panic")?;
            origin = its_origin;
            Ok(tenant)
        })
        .await
        .cloned();
    match opened {
        // Closing may have looked for open tenants before this one was.
        Ok(tenant) if inner.closing.load(Ordering::SeqCst) => {
            tenant.log.close();
            Err(TenantError::ShuttingDown)
        }
        Ok(tenant) => Ok((tenant, origin)),
        Err(error) => {
            // A name that was only asked for takes no room; but somebody else may be making the tenant.
            let mut open = inner.open.lock();
            drop(cell);
            let unused =
                |cell: &Arc<OnceCell<_>>| Arc::strong_count(cell) == 1 && cell.get().is_none();
            if open.get(&id).is_some_and(unused) {
                open.remove(&id);
            }
            Err(error)
        }
    }
}

impl Inner {
    fn place(&self, id: &TenantId) -> LogPlace {
        let dir = self.tenants_dir.join(id.as_str());
        LogPlace::new(
            Arc::clone(&self.disk),
            &dir,
            self.options.limits.log_file_bytes,
        )
    }

    fn manifest(&self, id: &TenantId) -> Result<Option<Manifest>, OpenError> {
        let dir = self.tenants_dir.join(id.as_str());
        Manifest::read(&*self.disk, &dir).map_err(|error| match error {
            ManifestError::Damaged(damage) => OpenError::Damaged(damage),
            ManifestError::TooNew(what) => OpenError::TooNew {
                path: dir.join("manifest"),
                what,
            },
            ManifestError::Io(error) => OpenError::io("reading the manifest in", &dir, &error),
        })
    }

    /// `None` if there is no such tenant.
    fn open_tenant(&self, id: &TenantId) -> Result<Option<Tenant>, OpenError> {
        let place = self.place(id);
        let Some(manifest) = self.manifest(id)? else {
            let found = writer::file_with_events(&place)
                .map_err(|error| OpenError::io("looking for events in", &place.dir, &error))?;
            return match found {
                Some(file) => Err(OpenError::Damaged(Damage {
                    path: place.dir.join("manifest"),
                    offset: 0,
                    what: format!("it is gone, but {} is there", file.display()),
                })),
                None => Ok(None),
            };
        };
        let log = Log::open(id.clone(), place, manifest, &self.shared)?;
        Ok(Some(self.with_log(log)))
    }

    /// [`Inner::open_tenant`] was called and found none.
    fn create_tenant(&self, id: &TenantId) -> Result<Tenant, OpenError> {
        let place = self.place(id);
        let dir = place.dir.clone();
        let log_id = LogId::from_bytes(Uuid::new_v4().into_bytes());
        let writer = writer::create(place.clone(), log_id)
            .map_err(|error| OpenError::io("making the log in", &dir, &error))?;
        let log = Log::new(id.clone(), place, writer, &self.shared);
        Ok(self.with_log(log))
    }

    fn with_log(&self, log: Arc<Log>) -> Tenant {
        Tenant {
            log,
            limits: Arc::clone(&self.shared.limits),
            hasher: self.shared.hasher,
            partitions: self.options.partitions,
            room: Arc::clone(&self.room),
            #[cfg(feature = "sql")]
            sql: self.sql.clone(),
        }
    }

    fn for_each_open(&self, act: impl Fn(&Tenant)) {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        for tenant in open.iter().filter_map(|cell| cell.get()) {
            act(tenant);
        }
    }

    fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.for_each_open(|tenant| tenant.log.close());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}
