//! Reads that are about more than some events: listings, figures, and what is not there.

use std::collections::BTreeMap;

use annals::{
    Kind as ErrorKind, ReadRequest, Text,
    client::{NamePage, PageRequest},
};
use uuid::Uuid;

use super::Reads;
use crate::{
    ledger::{Fault, ensure},
    run::chain,
    story::Story,
};

/// Pages of a listing that are read.
const PAGES: usize = 4;

impl Reads {
    /// Some pages of entities: in order, and each that has events.
    pub(super) async fn entities(&mut self) -> Result<(), Fault> {
        let writer = self.below(self.story().writers() as u64) as usize;
        let own = self.story().entities_per_writer();
        let versions: Vec<_> = (0..own)
            .map(|n| self.ledger.version(writer * own + n))
            .collect();
        let mut request = PageRequest {
            prefix: Story::prefix(writer),
            page_size: Some(1 + self.below(1_000) as u32),
            page: None,
        };
        let mut listed = BTreeMap::new();
        for _ in 0..PAGES {
            let page: NamePage = self
                .run
                .ask("list entities", || self.client.entities(&request))
                .await?;
            for summary in page.names {
                let name = summary.name.to_string();
                let in_order = listed.last_key_value().is_none_or(|(last, _)| *last < name);
                let is_right = in_order
                    && name.starts_with(&request.prefix)
                    && summary.last_position <= page.head;
                ensure!(
                    is_right,
                    "{summary:?} is listed after {:?} at {}",
                    listed.last_key_value(),
                    page.head
                );
                listed.insert(name, summary.events);
            }
            request.page = page.next_page;
            if request.page.is_none() {
                break;
            }
        }
        let is_whole = request.page.is_none();
        for (n, version) in versions
            .into_iter()
            .enumerate()
            .filter(|(_, version)| *version > 0)
        {
            let name = self.story().entity(writer * own + n);
            if !is_whole
                && listed
                    .last_key_value()
                    .is_some_and(|(last, _)| *last < name)
            {
                break;
            }
            let events = listed.get(&name).copied().unwrap_or(0);
            ensure!(
                events >= version,
                "{name} has {version} events, and is listed with {events}"
            );
        }
        Ok(())
    }

    /// All types: their events are all events.
    pub(super) async fn types(&mut self) -> Result<(), Fault> {
        let request = PageRequest::default();
        let page: NamePage = self
            .run
            .ask("list types", || self.client.event_types(&request))
            .await?;
        let events: u64 = page.names.iter().map(|name| name.events).sum();
        ensure!(
            events == page.head,
            "{events} events by type, {} in all",
            page.head
        );
        Ok(())
    }

    /// What nobody ever appended.
    pub(super) async fn unknown(&mut self) -> Result<(), Fault> {
        let draw = self.draw();
        let mut request = ReadRequest::default();
        request
            .filter
            .entity_ids
            .push(Text::from(format!("nobody-{draw}")));
        let batches = self.events("read an unknown entity", &request).await?;
        ensure!(batches.is_empty(), "nobody-{draw} has events");
        let id = Uuid::from_u64_pair(u64::MAX, draw);
        let (answer, _) = self
            .run
            .call("get an unknown event", || self.client.event_by_id(id))
            .await?;
        match answer {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Fault(format!("an unknown event: {}", chain(&e)))),
            Ok(event) => Err(Fault(format!("{id} was never sent, and is {event:?}"))),
        }
    }

    /// Figures that have to agree with each other and with what was answered.
    pub(super) async fn stats(&mut self) -> Result<(), Fault> {
        let answered = self.ledger.head();
        let stats = self.run.ask("stats", || self.client.stats()).await?;
        let Some(tenant) = stats.tenants.first() else {
            return Err(Fault("no figures about the tenant".to_owned()));
        };
        // Events of a group are counted just before the head moves past it: exact is the sum only once nothing is
        // appended, as at the end of a run.
        let sum: u64 = tenant.events_per_partition.iter().sum();
        ensure!(
            sum >= tenant.head,
            "{sum} events in partitions, the head is {}",
            tenant.head
        );
        ensure!(
            tenant.head >= answered,
            "the head is {}, and {answered} was answered",
            tenant.head
        );
        ensure!(
            tenant.poisoned.is_none(),
            "the log of {} is poisoned: {:?}",
            tenant.tenant,
            tenant.poisoned
        );
        Ok(())
    }
}
