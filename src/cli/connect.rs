//! The arguments that every client command takes.

use clap::Args;

use super::error::CliError;
use crate::{
    client::{Client, ClientOptions},
    types::id::TenantId,
};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectArgs {
    /// Address of the server
    #[arg(
        long,
        env = "ANNALS_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:4747"
    )]
    pub(super) url: String,

    /// Whose log; `default` if none is named
    #[arg(long, env = "ANNALS_TENANT", value_name = "NAME")]
    pub(super) tenant: Option<TenantId>,

    /// Credential, sent as `authorization: Bearer …`
    #[arg(
        long,
        env = "ANNALS_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
}

impl ConnectArgs {
    pub(super) fn options(&self) -> ClientOptions {
        ClientOptions {
            tenant: self.tenant.clone(),
            token: self.token.clone(),
            ..ClientOptions::default()
        }
    }

    pub(super) async fn client(&self) -> Result<Client, CliError> {
        Ok(Client::connect_with(&self.url, self.options()).await?)
    }
}
