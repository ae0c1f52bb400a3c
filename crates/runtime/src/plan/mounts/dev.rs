//! The /dev among what is mounted: who can make its nodes, what is mounted in it, when it becomes read-only.

use std::path::Path;

use rustix::fs::FileType;
use tinyd_core::Result;
use tinyd_sys::mount::Attr;

use super::{Context, Mount, Source, SourceKind, What, device};
use crate::plan::devices::{self, Dev};

/// A /dev as whoever makes it sees its owner.
pub(super) fn dev(context: Context<'_>) -> Result<Dev> {
    let is_inside = context.caller.opens_inside(context.namespaces);
    let ids = context.namespaces.id_maps().filter(|_| !is_inside);
    let mut dev = devices::plan(context.devices, ids)?;
    if !context.caller.makes_nodes() {
        dev.become_places();
    }
    Ok(dev)
}

/// The /dev that later mounts may lie in.
pub(super) fn last_dev(sources: &mut [Source]) -> Option<&mut Dev> {
    sources.iter_mut().rev().find_map(|source| match &mut source.what {
        SourceKind::Dev { dev, .. } => Some(dev),
        SourceKind::Root { .. }
        | SourceKind::Path { .. }
        | SourceKind::Queues { .. }
        | SourceKind::Device { .. } => None,
    })
}

/// Has a read-only /dev be writable until everything is in it that the runtime puts there; what makes it read-only then.
pub(crate) fn read_only_dev(sources: &mut [Source]) -> Option<Mount> {
    let mut devs = sources.iter_mut().filter_map(|source| match &mut source.what {
        SourceKind::Dev { attributes, .. } if *attributes & Attr::RDONLY != 0 => {
            Some((&source.field, attributes))
        }
        SourceKind::Dev { .. }
        | SourceKind::Root { .. }
        | SourceKind::Path { .. }
        | SourceKind::Queues { .. }
        | SourceKind::Device { .. } => None,
    });
    let (field, attributes) = devs.next()?;
    *attributes &= !Attr::RDONLY;
    let read_only = Attr { set: Attr::RDONLY, ..Attr::default() };
    let what = What::Remount { changes: vec![(read_only, false)], data: None };
    Some(Mount { field: field.clone(), destination: "/dev".into(), what })
}

/// The nodes of a /dev whose maker can make none: the host's own, over the files that were made in their places.
pub(super) fn bound_devices(context: Context<'_>, sources: &mut Vec<Source>) -> Result<Vec<Mount>> {
    if context.caller.makes_nodes() {
        return Ok(Vec::new());
    }
    let nodes = devices::plan(context.devices, None)?.nodes.into_iter();
    let nodes = nodes.filter(|(_, node)| node.kind != FileType::Fifo);
    nodes
        .map(|(name, node)| device("linux.devices", Path::new("/dev").join(name), node, context, sources))
        .collect()
}
