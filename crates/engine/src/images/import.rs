//! `import`: a root file system that a client sends as an archive becomes an image of one layer.

use std::sync::Arc;

use tinyd_core::{Error, Result, time::rfc3339};
use tinyd_image::{
    change,
    compose::{compose, take_in},
    config::{History, ImageConfig, RunConfig},
    load::Loaded,
    platform::Platform,
    reference::Reference,
};
use tokio::sync::mpsc;

use super::{
    collect_soon, commit,
    load::{EVENTS, report, settle},
    pipe::Reader,
};
use crate::{
    Inner,
    api::{ImageEvent, ImageEvents, ImportOptions, Incoming},
    container::now,
};

/// What is known of the image before its layer is.
#[derive(Debug)]
struct Draft {
    names: Vec<Reference>,
    config: ImageConfig,
    message: String,
}

/// Takes in what the client sends.
pub(crate) fn import(inner: &Arc<Inner>, incoming: Incoming, options: &ImportOptions) -> Result<ImageEvents> {
    let draft = draft(options)?;
    let (events, receiver) = mpsc::channel(EVENTS);
    let task = Arc::clone(inner);
    inner.tasks.spawn_blocking(move || {
        if let Err(error) = make(&task, draft, &mut Reader::new(incoming), &events) {
            collect_soon(&task);
            // One that has gone away is not told.
            let _ = events.blocking_send(Err(error));
        }
    });
    Ok(receiver)
}

fn draft(options: &ImportOptions) -> Result<Draft> {
    let mut config = RunConfig::default();
    change::apply(&mut config, &options.changes)?;
    let platform: Platform =
        if options.platform.is_empty() { Platform::host() } else { options.platform.parse()? };
    if platform.os != "linux" {
        let message = format!("{:?}: images are for Linux, such as linux/arm64", options.platform);
        return Err(Error::invalid("--platform", message));
    }
    let names = commit::names(&options.name)?;
    let config = ImageConfig { platform, config, ..ImageConfig::default() };
    Ok(Draft { names, config, message: options.message.clone() })
}

fn make(
    inner: &Inner,
    draft: Draft,
    archive: &mut Reader,
    events: &mpsc::Sender<Result<ImageEvent>>,
) -> Result<()> {
    let lease = inner.shelf.store().lease();
    let layer = take_in(&lease, archive)?;
    let step = History { created: Some(rfc3339(now())), comment: draft.message, ..History::default() };
    let manifest = compose(&lease, draft.config, &[], step, Some(layer))?;
    let loaded = Loaded { manifest, index: None, names: draft.names };
    let arrived = settle(inner, &lease, loaded, &|progress| report(events, &progress))?;
    let _ = events.blocking_send(Ok(ImageEvent::Arrived(arrived)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_before_anything_is_sent() {
        let options = |name: &str, platform: &str, change: &str| ImportOptions {
            name: name.into(),
            platform: platform.into(),
            changes: vec![change.into()],
            ..ImportOptions::default()
        };
        let made = draft(&options("app:1", "linux/arm64", "CMD x")).unwrap();
        assert_eq!((made.config.platform.to_string().as_str(), made.names.len()), ("linux/arm64", 1));
        for (bad, field) in [
            (options("A B", "", ""), "NAME"),
            (options("", "windows/amd64", ""), "--platform"),
            (options("", "", "RUN x"), "--change"),
        ] {
            assert_eq!(draft(&bad).unwrap_err().field(), Some(field), "{bad:?}");
        }
    }
}
