//! `system prune`: containers that do not run, networks that nobody is on, images that nobody needs; and volumes that nobody has named,
//! when that is asked for.

use std::{collections::BTreeMap, sync::Arc};

use tinyd_core::{Kind, Result, State};
use tinyd_image::tree;

use crate::{
    Inner,
    api::{PruneChoice, SystemPruned},
    blocking,
    container::Input,
    handle::Handle,
    images, networks, volumes,
};

/// Removes what is chosen.
pub(crate) async fn prune(inner: &Arc<Inner>, choice: PruneChoice) -> Result<SystemPruned> {
    let mut pruned = SystemPruned::default();
    for handle in inner.registry.all() {
        container(inner, &handle, &choice, &mut pruned).await?;
    }
    for view in networks::list(inner) {
        let config = &view.config;
        if !choice.admits(config.created_unix_nanos, &config.labels) {
            continue;
        }
        match networks::delete(inner, config.name.as_str()).await {
            Ok(()) => pruned.networks.push(config.name.to_string()),
            // Built in, in use, or removed meanwhile.
            Err(error) if is_no_matter(error.kind()) || error.kind() == Kind::InvalidArgument => {}
            Err(error) => return Err(error),
        }
    }
    let task = Arc::clone(inner);
    blocking(move || {
        if choice.volumes {
            let gone = volumes::prune_if(&task, |volume| {
                volumes::is_unnamed(volume) && choice.admits(0, &volume.labels)
            })?;
            pruned.volumes = gone.removed;
            pruned.freed_bytes += gone.freed_bytes;
        }
        let gone = images::prune_if(&task, choice.all_images, |facts| match facts {
            Some(facts) => choice.admits(facts.created_unix_nanos, &facts.config.config.labels),
            // Nobody knows how old it is, or what its labels are.
            None => choice.is_for_all(),
        })?;
        pruned.untagged = gone.untagged;
        pruned.images = gone.removed;
        pruned.freed_bytes += gone.freed_bytes;
        Ok(pruned)
    })
    .await
}

async fn container(
    inner: &Arc<Inner>,
    handle: &Handle,
    choice: &PruneChoice,
    pruned: &mut SystemPruned,
) -> Result<()> {
    let record = &handle.record;
    let is_idle = matches!(handle.view().state, State::Created | State::Stopped { .. });
    if !is_idle || !choice.admits(record.created_unix_nanos, &record.config.labels) {
        return Ok(());
    }
    let dir = inner.layout.container(&record.id);
    let bytes = blocking(move || Ok(tree::disk_usage(&dir))).await?;
    // Not forced: one that was started meanwhile stays.
    match handle.ask(|reply| Input::Remove { force: false, volumes: false, reply }).await {
        Ok(()) => {
            pruned.containers.push(record.id.to_string());
            pruned.freed_bytes += bytes;
            Ok(())
        }
        Err(error) if is_no_matter(error.kind()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Somebody has taken it, or has removed it, meanwhile.
fn is_no_matter(kind: Kind) -> bool {
    matches!(kind, Kind::WrongState | Kind::NotFound)
}

impl PruneChoice {
    /// Whether nothing is left out by a filter.
    fn is_for_all(&self) -> bool {
        self.until_unix_nanos.is_none() && self.labels.is_empty() && self.not_labels.is_empty()
    }

    /// Whether something that was made then and has these labels is chosen.
    fn admits(&self, created_unix_nanos: i64, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            labels.get(key).is_some_and(|own| value.as_ref().is_none_or(|value| own == value))
        };
        self.until_unix_nanos.is_none_or(|until| created_unix_nanos < until)
            && self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_by_age_and_labels() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let label = |key: &str, value: Option<&str>| vec![(key.to_owned(), value.map(str::to_owned))];
        let admits = |choice: PruneChoice| choice.admits(100, &labels);
        assert!(admits(PruneChoice::default()));
        assert!(admits(PruneChoice { until_unix_nanos: Some(101), ..PruneChoice::default() }));
        assert!(!admits(PruneChoice { until_unix_nanos: Some(100), ..PruneChoice::default() }));
        assert!(admits(PruneChoice { labels: label("a", Some("1")), ..PruneChoice::default() }));
        assert!(!admits(PruneChoice { labels: label("a", Some("2")), ..PruneChoice::default() }));
        assert!(!admits(PruneChoice { not_labels: label("a", None), ..PruneChoice::default() }));
        assert!(admits(PruneChoice { not_labels: label("b", None), ..PruneChoice::default() }));
    }
}
