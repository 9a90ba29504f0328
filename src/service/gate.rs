//! Who calls, and whose log is meant. Today that is the tenant alone, out of the request metadata `annals-tenant`.
//!
//! Invariant: a read never makes a tenant; an append makes one only if `tenants.auto_create` says so.

use tonic::metadata::MetadataMap;

use super::status::Refusal;
use crate::{
    engine::{Engine, tenant::Tenant},
    types::{append::Violations, id::TenantId},
};

/// The request metadata that names the tenant.
pub(crate) const TENANT_KEY: &str = "annals-tenant";

/// The engine, seen from a call.
#[derive(Clone)]
pub(crate) struct Gate {
    engine: Engine,
    default_tenant: TenantId,
}

impl Gate {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            default_tenant: TenantId::default(),
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The tenant that a read is about.
    pub(crate) async fn tenant(&self, metadata: &MetadataMap) -> Result<Tenant, Refusal> {
        Ok(self.engine.tenant(&self.tenant_id(metadata)?).await?)
    }

    /// The tenant that an append is about.
    pub(crate) async fn tenant_for_append(
        &self,
        metadata: &MetadataMap,
    ) -> Result<Tenant, Refusal> {
        Ok(self
            .engine
            .tenant_for_append(&self.tenant_id(metadata)?)
            .await?)
    }

    /// Refuses what is no tenant to append to, without making it.
    pub(crate) async fn check_for_append(&self, metadata: &MetadataMap) -> Result<(), Refusal> {
        let id = self.tenant_id(metadata)?;
        if !self.engine.options().auto_create_tenants {
            self.engine.tenant(&id).await?;
        }
        Ok(())
    }

    /// The name of the tenant.
    pub(crate) fn tenant_id(&self, metadata: &MetadataMap) -> Result<TenantId, Refusal> {
        let mut named = metadata.get_all(TENANT_KEY).iter();
        let Some(name) = named.next() else {
            return Ok(self.default_tenant.clone());
        };
        let invalid = |told: String| Refusal::invalid(Violations::one(TENANT_KEY, told));
        if named.next().is_some() {
            return Err(invalid("is given twice: name one tenant".to_owned()));
        }
        let name = name
            .to_str()
            .map_err(|_| invalid(crate::types::id::InvalidTenantId.to_string()))?;
        TenantId::try_from(name).map_err(|e| invalid(e.to_string()))
    }
}
