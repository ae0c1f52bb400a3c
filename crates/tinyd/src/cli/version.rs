//! `tinyd version`: of this client, and of the daemon it asks.

use clap::Args;
use serde::Serialize;

use super::{failure::Result, format::Format, globals::Globals, output, remote::answer, verb::Verb};
use crate::pb;

/// Show the version of this client and of the daemon
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd version\n  tinyd version --format '{{.Server.Version}}'\n\n'tinyd --version' asks no daemon."
)]
pub(super) struct Version {
    /// json, or a template such as '{{.Client.Version}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Both in JSON and templates.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct VersionView {
    client: ClientView,
    server: Option<ServerView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ClientView {
    version: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServerView {
    version: String,
    api: String,
    platform: String,
}

impl Verb for Version {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        let mut view =
            VersionView { client: ClientView { version: env!("CARGO_PKG_VERSION") }, server: None };
        let mut server = None;
        let asked = globals.online(async |remote| {
            server = Some(answer(remote.system().version(pb::VersionRequest {})).await?);
            Ok(0)
        });
        view.server = server.map(|told: pb::VersionResponse| ServerView {
            version: told.version,
            api: told.api,
            platform: told.platform,
        });
        // The client's own is told whether or not a daemon answers.
        output::print(&format.one(&view, || view.lines())?)?;
        asked
    }
}

impl VersionView {
    fn lines(&self) -> String {
        let mut text = format!("Client  {}\n", self.client.version);
        if let Some(server) = &self.server {
            text.push_str(&format!("Server  {} (API {}, {})\n", server.version, server.api, server.platform));
        }
        text
    }
}
