//! An engine on the real disk.

use annals::{Engine, EngineOptions, Tenant, TenantId};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::conditions::folder;

/// A runtime and an engine in a folder of their own, which goes with it.
pub(crate) struct Scratch {
    pub(crate) runtime: Runtime,
    pub(crate) tenant: Tenant,
    _engine: Engine,
    _dir: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = folder();
        let runtime = Runtime::new().expect("threads can be started");
        let engine = Engine::open(dir.path(), EngineOptions::default()).expect("the folder opens");
        let tenant = runtime.block_on(engine.tenant(&TenantId::default()));
        Self {
            runtime,
            tenant: tenant.expect("the default tenant opens"),
            _engine: engine,
            _dir: dir,
        }
    }
}
