//! Pulls that have begun: what came of one that was cut is kept for the next, also over the end of the daemon. A file without content, by
//! the manifest's digest; it goes when the image arrives.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tinyd_core::Result;

use super::{Store, file_name};
use crate::{digest::Digest, failed};

impl Store {
    fn pull_path(&self, manifest: &Digest) -> PathBuf {
        self.pulls().join(file_name(manifest))
    }

    /// Writes down that an image is on its way, now.
    ///
    /// # Errors
    /// The call and the errno.
    pub(crate) fn begin_pull(&self, manifest: &Digest) -> Result<()> {
        let path = self.pull_path(manifest);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        // One that was begun before is gone on with.
        file.and_then(|file| file.set_modified(SystemTime::now()))
            .map_err(|source| failed(format_args!("open({path:?})"), source))
    }

    /// Forgets that an image is on its way: it is here, or it will not come.
    ///
    /// # Errors
    /// The call and the errno.
    pub(crate) fn end_pull(&self, manifest: &Digest) -> Result<()> {
        let path = self.pull_path(manifest);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(failed(format_args!("unlink({path:?})"), source))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The manifests of images that somebody has begun to pull within `age`; of others it is forgotten.
    ///
    /// # Errors
    /// The call and the errno.
    pub(crate) fn begun_pulls(&self, age: Duration) -> Result<Vec<Digest>> {
        let dir = self.pulls();
        let entries =
            fs::read_dir(&dir).map_err(|source| failed(format_args!("read directory {dir:?}"), source))?;
        let mut begun = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.split_once('-'));
            let digest = digest.and_then(|(kind, hex)| format!("{kind}:{hex}").parse::<Digest>().ok());
            let at = entry.metadata().and_then(|meta| meta.modified());
            let is_stale = at.is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= age));
            match digest {
                Some(digest) if is_stale => self.end_pull(&digest)?,
                Some(digest) => begun.push(digest),
                None => {}
            }
        }
        Ok(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    #[test]
    fn a_pull_that_has_begun_is_known_until_it_ends_or_is_old() {
        let scratch = Scratch::new("pulls");
        let (store, one, two) = (&scratch.store, Digest::of(b"one"), Digest::of(b"two"));
        let hour = Duration::from_secs(3600);
        for digest in [&one, &one, &two] {
            store.begin_pull(digest).unwrap();
        }
        store.end_pull(&two).unwrap();
        store.end_pull(&two).unwrap();
        assert_eq!(store.begun_pulls(hour).unwrap(), std::slice::from_ref(&one));
        assert_eq!(store.begun_pulls(Duration::ZERO).unwrap(), []);
        assert_eq!(store.begun_pulls(hour).unwrap(), []);
    }
}
