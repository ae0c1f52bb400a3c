//! `list`: every container that has a record; and what is told of one, by `state` too.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use serde::Serialize;
use tinyd_core::{
    Kind, Result,
    oci::{self, Status},
    time,
};

use super::{
    record::Place,
    root::Root,
    state::{Seen, observe},
};

/// A container as runc tells of it: the specification's state and a little more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// SemVer of the specification.
    pub oci_version: &'static str,
    /// Its id.
    pub id: String,
    /// Its first process; 0 when there is none.
    pub pid: i32,
    /// Where it is.
    pub status: Status,
    /// Its bundle.
    pub bundle: String,
    /// The directory of its root, absolute.
    pub rootfs: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The bundle's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who created it: a name of the host, or `#` and a number.
    pub owner: String,
}

/// The ids of all containers, sorted.
///
/// # Errors
/// When the records cannot be read.
pub fn ids(root: &Root) -> Result<Vec<String>> {
    root.ids()
}

/// All containers, by id, and a line for each whose record cannot be read: it hides no other. Without `whole` what is in their
/// configurations is left out.
///
/// # Errors
/// When the directory of records cannot be read. A container that is being deleted meanwhile is left out.
pub fn list(root: &Root, whole: bool) -> Result<(Vec<Listed>, Vec<String>)> {
    let (mut all, mut unreadable) = (Vec::new(), Vec::new());
    let users = users();
    for id in root.ids()? {
        let place = root.place(&id)?;
        match observe(&place).and_then(|seen| listed(&place, seen, &users, whole)) {
            Ok(one) => all.push(one),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => unreadable.push(format!("load container {id}: {error}")),
        }
    }
    Ok((all, unreadable))
}

pub(super) fn listed(place: &Place, seen: Seen, users: &str, whole: bool) -> Result<Listed> {
    let spec = match whole.then(|| place.spec()) {
        None => oci::Spec::default(),
        // It is kept when the container is made but for its program. One that is deleted meanwhile has no record any more.
        Some(Err(error))
            if error.kind() == Kind::NotFound
                && (seen.record.process.is_none() || seen.record.ahead)
                && place.read().is_ok() =>
        {
            oci::Spec::default()
        }
        Some(spec) => spec?,
    };
    let pid = seen.record.process.filter(|_| seen.pidfd.is_some()).map_or(0, |process| process.pid);
    let rootfs = spec.root.map(|root| seen.record.bundle.join(root.path).display().to_string());
    Ok(Listed {
        oci_version: oci::OCI_VERSION,
        id: place.id.clone(),
        pid,
        status: seen.status,
        bundle: seen.record.bundle.display().to_string(),
        rootfs: rootfs.unwrap_or_default(),
        created: time::rfc3339(seen.record.created_unix_nanos),
        annotations: spec.annotations,
        owner: owner(place, users),
    })
}

/// The users of the host. Without a list of them everybody is a number.
pub(super) fn users() -> String {
    std::fs::read_to_string("/etc/passwd").unwrap_or_default()
}

/// Whose directory it is.
fn owner(place: &Place, users: &str) -> String {
    let uid = place.dir.metadata().map_or(0, |metadata| metadata.uid()).to_string();
    let mut names = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    names.next().unwrap_or_else(|| format!("#{uid}"))
}
