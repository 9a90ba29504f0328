//! The tables of a tenant as of one position: the catalog is the tenant, its schemas are `annals` (`events`, `entities`), in
//! which names are looked up first, and `types` (a table for each event type that has occurred).

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use datafusion::{
    catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider},
    error::{DataFusionError, Result},
    execution::{SessionState, SessionStateBuilder, SessionStateDefaults},
};

use super::{SqlError, Within, provider::TableAt, workers::Means};
use crate::{
    engine::tenant::{ListRequest, Tenant},
    types::{id::Position, limits::PAGE_MAX, read::ReadError, scan::Table, text::Text},
};

/// The schema that names are looked up in first.
const ANNALS: &str = "annals";

/// Functions that are used as tables. They are looked for as tables first.
static FUNCTIONS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = SessionStateDefaults::default_table_functions().into_iter();
    functions
        .map(|function| function.name().to_owned())
        .collect()
});

/// A tenant as of a position: what every table of a statement is read at.
#[derive(Clone)]
pub(super) struct Cut {
    pub(super) tenant: Tenant,
    pub(super) head: Position,
    /// Which events its tables of events have.
    pub(super) within: Within,
}

impl Cut {
    pub(super) fn new(tenant: &Tenant, head: Position, within: Within) -> Arc<Self> {
        Arc::new(Self {
            tenant: tenant.clone(),
            head,
            within,
        })
    }

    /// What plans over these tables.
    pub(super) fn session(self: &Arc<Self>, means: &Means) -> SessionState {
        let tenant = self.tenant.id().as_str();
        let config = means
            .base
            .config()
            .clone()
            .with_default_catalog_and_schema(tenant, ANNALS);
        let mut state = SessionStateBuilder::new_from_existing(means.base.clone())
            .with_config(config)
            .with_runtime_env(Arc::clone(&means.environment))
            .with_catalog_list(Arc::new(Catalogs(Arc::clone(self))))
            .build();
        // What `now()` is.
        state.mark_start_execution();
        state
    }

    fn table(self: &Arc<Self>, table: Table) -> Arc<dyn TableProvider> {
        Arc::new(TableAt::new(self, table))
    }

    /// Whether there is an event of a type.
    fn has_type(&self, event_type: &Text) -> Result<bool, ReadError> {
        let request = ListRequest {
            prefix: event_type.clone(),
            limit: 1,
            head: Some(self.head),
            ..ListRequest::default()
        };
        // Of the names that begin with it, it comes first.
        let found = self.tenant.list_event_types(&request)?.names;
        Ok(found.first().is_some_and(|first| first.name == *event_type))
    }

    /// All types, in order.
    fn types(&self) -> Result<Vec<String>, ReadError> {
        let mut types = Vec::new();
        let mut request = ListRequest {
            limit: PAGE_MAX,
            head: Some(self.head),
            ..ListRequest::default()
        };
        loop {
            let page = self.tenant.list_event_types(&request)?;
            types.extend(page.names.iter().map(|found| found.name.to_string()));
            request.after = page.names.last().map(|last| last.name.clone());
            if !page.more {
                return Ok(types);
            }
        }
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.tenant.id(), self.head)
    }
}

#[derive(Debug)]
struct Catalogs(Arc<Cut>);

impl CatalogProviderList for Catalogs {
    fn register_catalog(
        &self,
        _: String,
        _: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![self.0.tenant.id().to_string()]
    }

    /// One that is not there has schemas all the same, so that their tables are refused with a word of what there is.
    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        Some(Arc::new(Catalog {
            cut: Arc::clone(&self.0),
            name: name.to_owned(),
        }))
    }
}

#[derive(Debug)]
struct Catalog {
    cut: Arc<Cut>,
    name: String,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        vec![ANNALS.to_owned(), Table::TYPES.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let kind = match name {
            _ if self.name != self.cut.tenant.id().as_str() => SchemaKind::None,
            ANNALS => SchemaKind::Annals,
            Table::TYPES => SchemaKind::Types,
            _ => SchemaKind::None,
        };
        Some(Arc::new(Schema {
            cut: Arc::clone(&self.cut),
            catalog: self.name.clone(),
            name: name.to_owned(),
            kind,
        }))
    }
}

#[derive(Debug)]
struct Schema {
    cut: Arc<Cut>,
    catalog: String,
    name: String,
    kind: SchemaKind,
}

#[derive(Debug, Clone, Copy)]
enum SchemaKind {
    Annals,
    Types,
    /// There is no such schema.
    None,
}

impl Schema {
    /// Why there is no such table.
    fn no_such_table(&self, table: &str) -> SqlError {
        let types = "types.\"order.paid\" is that of the events of a type";
        let (name, hint) = match self.kind {
            SchemaKind::Annals => (
                table.to_owned(),
                format!("there are events and entities, and {types}"),
            ),
            SchemaKind::Types => (
                format!("types.\"{table}\""),
                format!(
                    "no event of this type has occurred up to position {}; SHOW TABLES lists those that have, and \
                     names are written as they are, in quotes",
                    self.cut.head
                ),
            ),
            // Dots that stand for nothing but themselves.
            SchemaKind::None if self.catalog == Table::TYPES => (
                format!("types.{}.{table}", self.name),
                format!("write types.\"{}.{table}\"", self.name),
            ),
            SchemaKind::None => (
                format!("{}.{}.{table}", self.catalog, self.name),
                format!(
                    "there are events and entities in the schema {ANNALS} of the catalog \"{}\", and {types}",
                    self.cut.tenant.id()
                ),
            ),
        };
        SqlError::NoSuchTable { name, hint }
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        match self.kind {
            SchemaKind::Annals => vec![Table::EVENTS.to_owned(), Table::ENTITIES.to_owned()],
            // What cannot be read is told where a table is.
            SchemaKind::Types => self.cut.types().unwrap_or_default(),
            SchemaKind::None => Vec::new(),
        }
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let table = match (self.kind, name) {
            (SchemaKind::Annals, Table::EVENTS) => Table::Events,
            (SchemaKind::Annals, Table::ENTITIES) => Table::Entities,
            (SchemaKind::Types, name) => {
                let event_type = Text::from(name);
                let has = self.cut.has_type(&event_type).map_err(SqlError::from)?;
                if !has {
                    return Err(self.no_such_table(name).into());
                }
                Table::Type(event_type)
            }
            (SchemaKind::Annals, name) if FUNCTIONS.contains(name) => return Ok(None),
            _ => return Err(self.no_such_table(name).into()),
        };
        Ok(Some(self.cut.table(table)))
    }

    fn table_exist(&self, name: &str) -> bool {
        match self.kind {
            SchemaKind::Annals => [Table::EVENTS, Table::ENTITIES].contains(&name),
            SchemaKind::Types => self.cut.has_type(&name.into()).unwrap_or(false),
            SchemaKind::None => false,
        }
    }
}
