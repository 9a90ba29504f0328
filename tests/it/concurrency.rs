//! Many callers at once: races, subscribers under load, streams, full queues, many tenants.
//!
//! Tasks run on several threads and in an order that differs from run to run; what is asserted holds in each.

mod queue;
mod races;
mod streams;
mod subscribers;
mod tenants;

use std::path::Path;

use annals::{Engine, EngineOptions, Event, Limits, ReadRequest, Tenant, TenantId};

fn options() -> EngineOptions {
    EngineOptions {
        limits: Limits {
            disk_reserve_bytes: 0,
            ..Limits::default()
        },
        ..EngineOptions::default()
    }
}

async fn open(dir: &Path) -> (Engine, Tenant) {
    let engine = Engine::open(dir, options()).unwrap();
    let tenant = engine.tenant(&TenantId::default()).await.unwrap();
    (engine, tenant)
}

async fn read(tenant: &Tenant, request: ReadRequest) -> Vec<Event> {
    let mut reader = tenant.read(request).unwrap();
    let mut events = Vec::new();
    while let Some(batch) = reader.next().await.unwrap() {
        events.extend(batch);
    }
    events
}

/// Numbers that look random, the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // xorshift64, Marsaglia 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
