//! `list`: every container that has a record.

use serde::Serialize;
use tinyd_core::{Kind, Result, oci::Status, time};

use super::{record::Root, state::observe};

/// One line of the list, as runc writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its first process; 0 when there is none.
    pub pid: i32,
    /// Where it is.
    pub status: Status,
    /// Its bundle.
    pub bundle: String,
    /// When it was created, RFC 3339.
    pub created: String,
}

/// The ids of all containers, sorted.
///
/// # Errors
/// When the records cannot be read.
pub fn ids(root: &Root) -> Result<Vec<String>> {
    root.ids()
}

/// All containers, by id.
///
/// # Errors
/// When the records cannot be read. A container that is being deleted meanwhile is left out.
pub fn list(root: &Root) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    for id in root.ids()? {
        let seen = match observe(&root.place(&id)?) {
            Ok(seen) => seen,
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let pid = seen.record.process.filter(|_| seen.pidfd.is_some()).map_or(0, |process| process.pid);
        let bundle = seen.record.bundle.display().to_string();
        all.push(Listed {
            id,
            pid,
            status: seen.status,
            bundle,
            created: time::rfc3339(seen.record.created_unix_nanos),
        });
    }
    Ok(all)
}
