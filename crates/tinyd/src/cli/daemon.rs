//! `tinyd daemon`: what a daemon is told when it is started. What it then does is in `crate::daemon`.

use std::path::PathBuf;

use clap::Args;
use tinyd_core::{Error, Kind};

use super::{failure::Result, globals::Globals, verb::Verb};
use crate::daemon::{self, DaemonOptions, Listen, LogFormat, LogLevel, Storage};

/// Run the daemon, in the foreground
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tinyd daemon
  tinyd daemon --listen tcp://0.0.0.0:9999 --tls-ca ca.pem --tls-cert server-cert.pem --tls-key server-key.pem

It ends on SIGTERM or SIGINT and leaves the containers running: the next daemon finds them again.")]
pub(super) struct Daemon {
    /// The directory for what lasts: containers, volumes, networks
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tinyd")]
    root: PathBuf,
    /// The directory for what a reboot may take: sockets
    #[arg(long, value_name = "DIR", default_value = "/run/tinyd")]
    run_dir: PathBuf,
    /// Where to listen, beside unix://RUN-DIR/tinyd.sock: unix:///PATH or tcp://ADDRESS:PORT; several may be given
    #[arg(long, value_name = "URL")]
    listen: Vec<Listen>,
    /// PEM file of the authority that signs the certificates of clients; TCP needs it
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// PEM file of the daemon's certificate; TCP needs it
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the daemon's key; TCP needs it
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Serve TCP without TLS, on loopback only: whoever reaches the port owns this host
    #[arg(long)]
    insecure_tcp: bool,
    /// How root file systems are made: overlay, aufs or copy
    #[arg(long, value_name = "DRIVER", value_enum, default_value_t, hide_possible_values = true)]
    storage_driver: Storage,
    /// The runtime; beside this program, or on PATH, when absent
    #[arg(long, value_name = "FILE")]
    tinyrun: Option<PathBuf>,
    /// Addresses of the default network, as 10.5.0.0/16; chosen to overlap no route of the host when absent
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    default_subnet: Option<String>,
    /// Whose members may use the socket beside root [default: tinyd, if there is such a group]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// How much the log tells: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t, hide_possible_values = true)]
    log_level: LogLevel,
    /// How the log, on stderr, is written: text, or json, one object a line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    log_format: LogFormat,
}

impl Verb for Daemon {
    fn run(self, _: &Globals) -> Result<u8> {
        daemon::serve(self.into()).map_err(|error| Error::new(Kind::Internal, format!("{error:#}")))?;
        Ok(0)
    }
}

impl From<Daemon> for DaemonOptions {
    fn from(words: Daemon) -> DaemonOptions {
        DaemonOptions {
            root: words.root,
            run_dir: words.run_dir,
            listen: words.listen,
            tls_ca: words.tls_ca,
            tls_cert: words.tls_cert,
            tls_key: words.tls_key,
            insecure_tcp: words.insecure_tcp,
            storage: words.storage_driver,
            tinyrun: words.tinyrun,
            default_subnet: words.default_subnet,
            group: words.group,
            log_level: words.log_level,
            log_format: words.log_format,
        }
    }
}
