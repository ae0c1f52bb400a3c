//! The file that holds the contexts: `$XDG_CONFIG_HOME/tinyd/contexts.json`, 0600, replaced whole or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Kind, Result};

use crate::cli::{home::config_dir, host::DEFAULT_HOST};

/// The context that is always there: this host's own daemon.
pub(in crate::cli) const DEFAULT: &str = "default";

/// A daemon and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Context {
    /// `unix:///PATH` or `tcp://HOST:PORT`.
    pub(in crate::cli) host: String,
    /// PEM file of the authority, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) tls_ca: Option<PathBuf>,
    /// PEM file of this client's certificate, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) tls_cert: Option<PathBuf>,
    /// PEM file of this client's key, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) tls_key: Option<PathBuf>,
}

/// All contexts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Store {
    /// The one in use; [`DEFAULT`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(in crate::cli) contexts: BTreeMap<String, Context>,
}

impl Store {
    /// Reads the user's contexts; a file that is not there holds none.
    ///
    /// # Errors
    /// `Internal`: the file cannot be read or is not what this program writes.
    pub(in crate::cli) fn read() -> Result<Store> {
        path().map_or_else(|| Ok(Store::default()), |path| Store::read_from(&path))
    }

    /// Replaces the user's contexts.
    ///
    /// # Errors
    /// `Internal`: no home directory, or the file cannot be written.
    pub(in crate::cli) fn write(&self) -> Result<()> {
        let path =
            path().ok_or_else(|| Error::new(Kind::Internal, "neither XDG_CONFIG_HOME nor HOME is set"))?;
        self.write_to(&path)
    }

    fn read_from(path: &Path) -> Result<Store> {
        let told = |error: &dyn std::error::Error| {
            Error::internal(error).context(format_args!("read {}", path.display()))
        };
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| told(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Store::default()),
            Err(error) => Err(told(&error)),
        }
    }

    fn write_to(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::internal(&error))? + "\n";
        replace(path, text.as_bytes())
            .map_err(|error| Error::internal(&error).context(format_args!("write {}", path.display())))
    }

    /// The context in use.
    ///
    /// # Errors
    /// `NotFound` when the one in use was taken away.
    pub(in crate::cli) fn current(&self) -> Result<Context> {
        self.named("context", self.current_name())
    }

    /// The name of the context in use.
    pub(in crate::cli) fn current_name(&self) -> &str {
        self.current.as_deref().unwrap_or(DEFAULT)
    }

    /// A context by name.
    ///
    /// # Errors
    /// `NotFound` of `field`.
    pub(in crate::cli) fn named(&self, field: &str, name: &str) -> Result<Context> {
        match self.contexts.get(name) {
            Some(context) => Ok(context.clone()),
            None if name == DEFAULT => Ok(Context { host: DEFAULT_HOST.to_owned(), ..Context::default() }),
            None => {
                Err(Error::new(Kind::NotFound, format!("there is no context {name:?} (tinyd context ls)"))
                    .of_field(field))
            }
        }
    }
}

/// `$XDG_CONFIG_HOME/tinyd/contexts.json`, or below `~/.config`.
fn path() -> Option<PathBuf> {
    Some(config_dir()?.join("tinyd/contexts.json"))
}

/// Writes beside the file and renames over it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = write_new(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is half-written is no use to anyone; the first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_reads_back_and_is_private() {
        let directory = std::env::temp_dir().join(format!("tinyd-contexts-{}", std::process::id()));
        let path = directory.join("tinyd/contexts.json");
        assert_eq!(Store::read_from(&path).unwrap(), Store::default());
        let mut store = Store::default();
        store.contexts.insert("edge".into(), Context { host: "tcp://e:1".into(), ..Context::default() });
        store.write_to(&path).unwrap();
        assert_eq!(Store::read_from(&path).unwrap(), store);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "not json").unwrap();
        assert!(Store::read_from(&path).unwrap_err().to_string().contains("contexts.json"));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_default_is_always_there() {
        assert_eq!(Store::default().current().unwrap().host, DEFAULT_HOST);
        let gone = Store { current: Some("gone".into()), ..Store::default() };
        assert!(gone.current().is_err());
    }
}
