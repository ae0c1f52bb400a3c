//! What a daemon is told when it is started, as types.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use tinyd_core::Error;

/// How to run a daemon. The command line fills it in.
#[derive(Clone, Debug)]
pub(crate) struct DaemonOptions {
    /// What lasts: records, layers, volumes (`--root`).
    pub(crate) root: PathBuf,
    /// What a reboot may take: sockets (`--run-dir`).
    pub(crate) run_dir: PathBuf,
    /// Where to listen (`--listen`); `unix://RUN_DIR/tinyd.sock` alone when empty, and always beside TCP.
    pub(crate) listen: Vec<Listen>,
    /// The authority that signs clients' certificates (`--tls-ca`).
    pub(crate) tls_ca: Option<PathBuf>,
    /// The daemon's certificate (`--tls-cert`).
    pub(crate) tls_cert: Option<PathBuf>,
    /// The daemon's key (`--tls-key`).
    pub(crate) tls_key: Option<PathBuf>,
    /// Whether TCP is served without TLS, on loopback only (`--insecure-tcp`).
    pub(crate) insecure_tcp: bool,
    /// How root file systems are made (`--storage-driver`).
    pub(crate) storage: Storage,
    /// The runtime (`--tinyrun`); beside this program, or on PATH, when absent.
    pub(crate) tinyrun: Option<PathBuf>,
    /// The default network's addresses (`--default-subnet`), as `10.5.0.0/16`; chosen when absent.
    pub(crate) default_subnet: Option<String>,
    /// Whose members may use the unix socket beside root (`--group`). The default group may be missing; another must exist.
    pub(crate) group: Option<String>,
    /// How much the log tells (`--log-level`).
    pub(crate) log_level: LogLevel,
    /// How the log is written (`--log-format`).
    pub(crate) log_format: LogFormat,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// `unix://PATH`, absolute.
    Unix(PathBuf),
    /// `tcp://ADDRESS:PORT`.
    Tcp(SocketAddr),
}

/// How root file systems are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Storage {
    /// overlayfs: layers are shared, what is written is the container's own.
    #[default]
    Overlay,
    /// aufs, where the kernel has it.
    Aufs,
    /// A whole copy for each container: slow, and works on any file system.
    Copy,
}

/// How much the log tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogLevel {
    /// What the daemon could not do.
    Error,
    /// And what it did in another way.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And what it thought.
    Debug,
    /// And everything.
    Trace,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Listen {
    type Err = Error;

    fn from_str(text: &str) -> Result<Listen, Error> {
        let bad = |rule: &str| Error::invalid("--listen", format!("{text:?} {rule}"));
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Listen::Unix(PathBuf::from(path)))
            } else {
                Err(bad("has a path that is not absolute: unix:///PATH"))
            };
        }
        let address = text
            .strip_prefix("tcp://")
            .ok_or_else(|| bad("is not a place to listen: unix:///PATH or tcp://ADDRESS:PORT"))?;
        address
            .parse()
            .map(Listen::Tcp)
            .map_err(|_| bad("is not an address and a port, such as tcp://0.0.0.0:9999 or tcp://[::]:9999"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_listen() {
        assert_eq!("unix:///x.sock".parse::<Listen>().unwrap(), Listen::Unix("/x.sock".into()));
        assert_eq!("tcp://[::]:9".parse::<Listen>().unwrap(), Listen::Tcp("[::]:9".parse().unwrap()));
        for bad in
            ["", "x", "unix://x", "tcp://9999", "tcp://host:9999", "tcp://0.0.0.0:99999", "http://0.0.0.0:1"]
        {
            assert_eq!(bad.parse::<Listen>().unwrap_err().field(), Some("--listen"), "{bad}");
        }
    }
}
