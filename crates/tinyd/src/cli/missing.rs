//! An image that a container needs and that is not here: pulled before the container is made, as with Docker. The daemon says that it is
//! missing; nothing is asked before, so a container of an image that is here costs one call.

use std::io::{self, Write};

use tinyd_core::{Error, Kind, config::ContainerConfig};
use tinyd_engine::api::Reference;

use super::{
    definition::{ImageArgs, Pull},
    failure::{Failure, Result},
    image::{
        progress::{Progress, Way},
        transfer::{self, Told, Wanted},
    },
    remote::Remote,
};

/// When an image is pulled, and how that is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    when: Pull,
    is_quiet: bool,
}

impl Policy {
    /// What the words say.
    pub(super) const fn of(words: &ImageArgs) -> Policy {
        Policy { when: words.pull, is_quiet: words.quiet }
    }

    /// Does what needs the image of `config`; pulls that before, if it has to be.
    pub(super) async fn with_image<T>(
        self,
        remote: &Remote,
        config: &ContainerConfig,
        work: impl AsyncFn() -> Result<T>,
    ) -> Result<T> {
        let can_be_pulled = is_name(&config.image);
        if self.when == Pull::Always && can_be_pulled {
            self.pull(remote, config).await?;
        }
        match work().await {
            Err(Failure::Told(error)) if can_be_pulled && is_missing(&error) => match self.when {
                Pull::Never => Err(never(&error)),
                Pull::Always | Pull::Missing => {
                    self.say(&format!("Unable to find image '{}' locally", config.image));
                    self.pull(remote, config).await?;
                    work().await
                }
            },
            done => done,
        }
    }

    /// Docker's words are talk, as all about it is.
    fn say(self, line: &str) {
        if !self.is_quiet {
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
    }

    async fn pull(self, remote: &Remote, config: &ContainerConfig) -> Result<()> {
        let progress = Progress::new(Way::Pull, None, self.is_quiet)?;
        let platform = config.platform.clone().unwrap_or_default();
        let wanted = Wanted { image: config.image.clone(), platform, all_tags: false };
        transfer::pull(remote, wanted, progress, Told::Talk).await
    }
}

/// Whether a registry can be asked for it: it is neither a directory nor an id.
fn is_name(image: &str) -> bool {
    !image.starts_with('/') && !image.starts_with("sha256:") && Reference::parse("-i", image).is_ok()
}

/// Whether it is the image that was not found, and not a network.
fn is_missing(error: &Error) -> bool {
    error.kind() == Kind::NotFound && error.field() == Some("-i")
}

fn never(error: &Error) -> Failure {
    let message = format!("{}, and --pull never says that it is not pulled", error.message());
    Error::new(Kind::NotFound, message).of_field("-i").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_name_can_be_pulled() {
        for name in ["redis", "localhost:5000/a:1", "cafe"] {
            assert!(is_name(name), "{name}");
        }
        let (id, digits) = (format!("sha256:{}", "a".repeat(64)), "a".repeat(64));
        for other in ["/root/redis", "/", &id, &digits, "Redis", ""] {
            assert!(!is_name(other), "{other}");
        }
    }

    #[test]
    fn only_a_missing_image_is_missing() {
        let missing = Error::new(Kind::NotFound, "No such image: a").of_field("-i");
        assert!(is_missing(&missing));
        assert!(!is_missing(&Error::new(Kind::NotFound, "no network a")));
        assert!(!is_missing(&Error::invalid("-i", "no image")));
        let Failure::Told(told) = never(&missing) else { panic!("it is told") };
        assert_eq!(told.to_string(), "-i: No such image: a, and --pull never says that it is not pulled");
    }
}
