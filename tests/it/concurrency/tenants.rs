//! Many tenants in one engine, made and opened by many at once.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{sleep, timeout},
};

use annals::{
    Batch, Engine, EngineOptions, Limits, NewEvent, OpenError, Tenant, TenantError, TenantId,
    types::time::SystemClock,
};

use super::{super::unsynced_disk::UnsyncedDisk, options};

fn id(n: usize) -> TenantId {
    TenantId::try_from(format!("tenant-{n}").as_str()).unwrap()
}

fn open(dir: &Path, tenants_open_max: usize) -> Engine {
    let disk = Arc::new(UnsyncedDisk::default());
    Engine::open_with(disk, Arc::new(SystemClock), dir, many(tenants_open_max)).unwrap()
}

/// Once those who went away are done: as long as they work, the folder is locked.
async fn reopen(disk: &Arc<UnsyncedDisk>, dir: &Path) -> Engine {
    let mut opened = None;
    until(|| {
        let disk = Arc::clone(disk);
        opened = match Engine::open_with(disk, Arc::new(SystemClock), dir, many(1_000)) {
            Err(OpenError::Locked { .. }) => None,
            other => Some(other.unwrap()),
        };
        opened.is_some()
    })
    .await;
    opened.unwrap()
}

/// Waits for something that happens without being told.
async fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not happen");
        sleep(Duration::from_millis(1)).await;
    }
}

fn many(tenants_open_max: usize) -> EngineOptions {
    EngineOptions {
        limits: Limits {
            log_file_bytes: 16 << 10,
            tenants_open_max,
            ..options().limits
        },
        auto_create_tenants: true,
        ..options()
    }
}

async fn append(tenant: &Tenant) -> u64 {
    let batch = Batch::new([NewEvent::new("order-1", "x", "{}")]);
    tenant.append(batch).await.unwrap().first_position
}

/// Does the same on many tasks at once.
async fn all_at_once<T, F>(count: usize, act: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(count));
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let (start, task) = (Arc::clone(&start), act(n));
        tasks.spawn(async move {
            start.wait().await;
            task.await
        });
    }
    tasks.join_all().await
}

/// All who asked at once were told that they had made the tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_makes_a_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), 1_000);
    for round in 0..30 {
        let made = all_at_once(16, |_| {
            let engine = engine.clone();
            async move { engine.create_tenant(&id(round)).await.map(|_| ()) }
        })
        .await;
        let exists = Err(TenantError::AlreadyExists(id(round)));
        let losers = made.iter().filter(|made| **made == exists).count();
        assert_eq!((made.len(), losers), (16, 15), "{made:?}");
    }
}

/// A call that failed to find a tenant forgot the place where another was just making it, and a call that went away
/// left the log to be opened by two at once. Each then had a log of its own in the same folder, and what one of them
/// acknowledged was gone, or the folder could not be opened any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tenant_is_open_once_however_many_ask_and_go_away() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(UnsyncedDisk::default());
    for round in 0..40 {
        // Every second round opens what the one before made.
        let id = id(round / 2);
        let engine = reopen(&disk, dir.path()).await;
        disk.hold();
        let (mut gone, mut staying) = (JoinSet::new(), JoinSet::new());
        for n in 0..8 {
            let ask = || {
                let (engine, id) = (engine.clone(), id.clone());
                async move { engine.tenant_for_append(&id).await.unwrap() }
            };
            gone.spawn(timeout(Duration::from_micros(100 * n), ask()));
            let asked = ask();
            staying.spawn(async move { Some(asked.await) });
            let (engine, id) = (engine.clone(), id.clone());
            staying.spawn(async move { engine.tenant(&id).await.ok() });
        }
        while gone.join_next().await.is_some() {}
        disk.release();
        let tenants = staying.join_all().await;
        let tenants: Vec<_> = tenants.into_iter().flatten().collect();
        let mut head = tenants[0].head();
        for tenant in &tenants {
            head += 1;
            assert_eq!(append(tenant).await, head);
        }
        engine.close();
        drop(engine);
        let engine = reopen(&disk, dir.path()).await;
        assert_eq!(engine.tenant(&id).await.unwrap().head(), head);
    }
}

/// Names that were asked for and do not exist stayed, if two asked at once, and took the room of tenants that do.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_that_do_not_exist_take_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), 64);
    for _ in 0..20 {
        let asked = all_at_once(60, |n| {
            let engine = engine.clone();
            async move { engine.tenant(&id(n / 4)).await.err() }
        })
        .await;
        for (n, error) in asked.into_iter().enumerate() {
            assert!(matches!(error, Some(TenantError::NoSuchTenant(_))), "{n}");
        }
    }
    for n in 0..63 {
        engine.create_tenant(&id(n)).await.unwrap();
    }
    let refused = engine.create_tenant(&id(63)).await.map(|_| ());
    assert_eq!(refused, Err(TenantError::TooMany { max: 64 }));
}

/// Threads of this process that commit. Other tests may run in it, each with few.
fn committers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "annals-commit").count()
}

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.unwrap().parse::<usize>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_tenants_cost_no_thread_and_little_memory() {
    const TENANTS: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), TENANTS + 1);
    let before = resident_bytes();
    for n in 0..TENANTS {
        let tenant = engine.tenant_for_append(&id(n)).await.unwrap();
        assert_eq!(append(&tenant).await, 1);
    }
    assert_eq!(engine.tenants().len(), TENANTS + 1);
    until(|| committers() <= TENANTS / 8).await;
    let each = resident_bytes().saturating_sub(before) / TENANTS;
    assert!(each < 256 << 10, "{each} bytes for each tenant");
    // They work again when they are needed.
    for n in 0..TENANTS {
        let tenant = engine.tenant(&id(n)).await.unwrap();
        assert_eq!(append(&tenant).await, 2);
    }
}
