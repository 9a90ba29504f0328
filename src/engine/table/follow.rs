//! A scan of events that goes on: what stands in the log, then what is appended. One code path, as in a subscription:
//! scan from the position to the head, then wait.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{ScanBatch, events::Events, in_background};
use crate::{
    engine::{
        log::waiters::Waiter,
        tenant::{Tenant, blocking},
    },
    telemetry,
    types::{id::Position, limits::CHECKPOINT_EVERY, read::ReadError, scan::ScanRequest},
};

/// See the module.
pub(super) struct Follow {
    tenant: Tenant,
    request: Arc<ScanRequest>,
    schema: SchemaRef,
    waiter: Waiter,
    /// There may be wanted events between the position and the head.
    look: bool,
    /// Everything wanted up to here was given.
    position: Position,
    /// Rows still wanted.
    limit: u64,
    /// The scan up to a head, and that.
    scan: Option<(Option<Box<Events>>, Position)>,
    /// When the position is to be told, rows or not.
    due: Instant,
}

impl Follow {
    pub(super) fn new(
        tenant: &Tenant,
        request: &ScanRequest,
        limit: u64,
        schema: SchemaRef,
    ) -> Self {
        let waiter = tenant.log.waiters().register(&tenant.scan_set(request));
        telemetry::subscribers_changed(1);
        Self {
            tenant: tenant.clone(),
            request: Arc::new(request.clone()),
            schema,
            waiter,
            look: true,
            position: request.after,
            limit,
            scan: None,
            due: Instant::now() + CHECKPOINT_EVERY,
        }
    }

    /// The next rows; an empty batch when none came for a while.
    pub(super) async fn next(&mut self) -> Result<Option<ScanBatch>, ReadError> {
        loop {
            if self.limit == 0 {
                return Ok(None);
            }
            if let Some((events, head)) = &mut self.scan {
                let head = *head;
                if let Some((rows, position)) = in_background(events, Events::next).await? {
                    self.position = position;
                    self.limit -= rows.num_rows() as u64;
                    if rows.num_rows() > 0 || Instant::now() >= self.due {
                        return Ok(Some(self.batch(rows, head)));
                    }
                    continue;
                }
                self.scan = None;
            }
            let head = self.tenant.log.head();
            if self.look && head > self.position {
                self.look = false;
                let events = self.events(head).await?;
                self.scan = Some((Some(Box::new(events)), head));
                continue;
            }
            self.look = false;
            select! {
                () = self.waiter.woken() => self.look = true,
                () = sleep_until(self.due) => {
                    // How far has the log come without anything for us?
                    let through = self.tenant.log.waiters().woken_through();
                    if self.waiter.was_woken() {
                        self.look = true;
                        continue;
                    }
                    self.position = self.position.max(through);
                    let nothing = RecordBatch::new_empty(Arc::clone(&self.schema));
                    return Ok(Some(self.batch(nothing, self.position)));
                }
            }
        }
    }

    /// What follows the position, up to a head.
    async fn events(&mut self, head: Position) -> Result<Events, ReadError> {
        let (position, limit) = (self.position, self.limit);
        let (tenant, request) = (self.tenant.clone(), Arc::clone(&self.request));
        let schema = Arc::clone(&self.schema);
        let begin = move || Events::new(&tenant, &request, (position, head), limit, schema);
        if self.request.filter.recorded.is_all() {
            return begin();
        }
        // Where the times are is looked up.
        blocking(begin).await
    }

    fn batch(&mut self, rows: RecordBatch, head: Position) -> ScanBatch {
        self.due = Instant::now() + CHECKPOINT_EVERY;
        ScanBatch {
            rows,
            position: Some(self.position),
            head,
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.tenant.log.waiters().remove(&self.waiter);
        telemetry::subscribers_changed(-1);
    }
}
