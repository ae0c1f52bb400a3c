//! `export`: a container's file system as a tar stream.

use std::sync::Arc;

use tinyd_core::{Result, State};
use tokio::sync::mpsc;

use super::{
    files::{Files, require_there},
    pipe::Writer,
    save::PIECES,
};
use crate::{Inner, api::Outgoing, blocking, record::Record};

/// Writes the container's files to the client. One that runs goes on meanwhile: what it changes may be there or not.
pub(crate) async fn export(inner: &Arc<Inner>, who: &str) -> Result<Outgoing> {
    let handle = inner.registry.find(who)?;
    let (record, view) = (handle.record(), handle.view());
    let opener = Arc::clone(inner);
    let files = blocking(move || Files::open(&opener, &handle.record, &handle.view())).await?;
    let is_live = matches!(view.state, State::Running { .. });
    let (pieces, receiver) = mpsc::channel(PIECES);
    let task = Arc::clone(inner);
    inner.tasks.spawn_blocking(move || {
        if let Err(error) = write(&task, &record, &files, is_live, &mut Writer::new(pieces.clone())) {
            let _ = pieces.blocking_send(Err(error));
        }
    });
    Ok(receiver)
}

fn write(inner: &Inner, record: &Record, files: &Files, is_live: bool, out: &mut Writer) -> Result<()> {
    let written =
        files.write_all(out, is_live).map_err(|error| error.context(format_args!("export {}", record.name)));
    // A container that goes takes its files along: that is then what there is to tell.
    require_there(inner, record)?;
    written.map(drop)
}
