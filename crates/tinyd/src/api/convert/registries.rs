//! The messages of Registries.

use tinyd_core::{Error, Result};
use tinyd_engine::api::{
    Credentials, ImagePulled, ImagePushed, Login, PullRequest, PushRequest, Reference, RegistryPaused,
    TransferEvent,
};

use super::required;
use crate::pb::{self, pull_image_response, push_image_response, registry_login};

impl TryFrom<pb::PullImageRequest> for PullRequest {
    type Error = Error;

    fn try_from(request: pb::PullImageRequest) -> Result<Self> {
        let pb::PullImageRequest { image, platform, all_tags, logins } = request;
        Ok(PullRequest { image, platform, all_tags, credentials: credentials(logins)? })
    }
}

impl TryFrom<pb::PushImageRequest> for PushRequest {
    type Error = Error;

    fn try_from(request: pb::PushImageRequest) -> Result<Self> {
        let pb::PushImageRequest { image, all_tags, logins } = request;
        Ok(PushRequest { image, all_tags, credentials: credentials(logins)? })
    }
}

fn credentials(logins: Vec<pb::RegistryLogin>) -> Result<Credentials> {
    logins.into_iter().try_fold(Credentials::default(), |all, one| {
        let (registry, login) = login(Some(one))?;
        Ok(all.with(&registry, login))
    })
}

/// A registry and who asks it.
pub(in crate::api) fn login(login: Option<pb::RegistryLogin>) -> Result<(String, Login)> {
    let pb::RegistryLogin { registry, login } = required("login", login)?;
    let login = match required("login", login)? {
        registry_login::Login::Password(pb::RegistryPassword { username, password }) => {
            Login::Password { username, password }
        }
        registry_login::Login::IdentityToken(token) => Login::IdentityToken(token),
    };
    Ok((registry, login))
}

/// What a pull tells. A push is none.
pub(in crate::api) fn pull_event(event: TransferEvent) -> pb::PullImageResponse {
    use pull_image_response::Message;
    let message = match event {
        TransferEvent::Begun(reference) => Some(Message::Begun(begun(&reference))),
        TransferEvent::Progress(progress) => Some(Message::Progress(progress.into())),
        TransferEvent::Paused(paused) => Some(Message::Paused(paused.into())),
        TransferEvent::Pulled(pulled) => Some(Message::Pulled(pulled.into())),
        TransferEvent::Pushed(_) => None,
    };
    pb::PullImageResponse { message }
}

/// What a push tells. A pull is none.
pub(in crate::api) fn push_event(event: TransferEvent) -> pb::PushImageResponse {
    use push_image_response::Message;
    let message = match event {
        TransferEvent::Begun(reference) => Some(Message::Begun(begun(&reference))),
        TransferEvent::Progress(progress) => Some(Message::Progress(progress.into())),
        TransferEvent::Paused(paused) => Some(Message::Paused(paused.into())),
        TransferEvent::Pushed(pushed) => Some(Message::Pushed(pushed.into())),
        TransferEvent::Pulled(_) => None,
    };
    pb::PushImageResponse { message }
}

fn begun(reference: &Reference) -> pb::TransferBegun {
    pb::TransferBegun {
        reference: reference.to_string(),
        name: reference.familiar_name(),
        repository: reference.repository().to_owned(),
        // What a digest names is not asked for by tag.
        tag: reference.tag().filter(|_| reference.digest().is_none()).unwrap_or_default().to_owned(),
    }
}

impl From<RegistryPaused> for pb::RegistryPaused {
    fn from(paused: RegistryPaused) -> Self {
        let wait_ms = u64::try_from(paused.length.as_millis()).unwrap_or(u64::MAX);
        pb::RegistryPaused { why: paused.why, wait_ms }
    }
}

impl From<ImagePulled> for pb::ImagePulled {
    fn from(pulled: ImagePulled) -> Self {
        pb::ImagePulled {
            id: pulled.id,
            reference: pulled.reference.to_string(),
            name: pulled.reference.familiar(),
            digest: pulled.digest,
            is_new: pulled.is_new,
            notes: pulled.notes,
        }
    }
}

impl From<ImagePushed> for pb::ImagePushed {
    fn from(pushed: ImagePushed) -> Self {
        pb::ImagePushed {
            reference: pushed.reference.to_string(),
            tag: pushed.reference.tag().unwrap_or_default().to_owned(),
            digest: pushed.digest,
            size_bytes: pushed.size_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_says_whose_it_is_and_what_is_shown() {
        let token = registry_login::Login::IdentityToken("t".into());
        let of = |login| pb::RegistryLogin { registry: "a.example".into(), login };
        let request = pb::PullImageRequest { logins: vec![of(Some(token))], ..Default::default() };
        let request = PullRequest::try_from(request).unwrap();
        assert_eq!(request.credentials.for_registry("a.example"), Some(&Login::IdentityToken("t".into())));
        assert_eq!(request.credentials.for_registry("b.example"), None);
        assert_eq!(login(Some(of(None))).unwrap_err().field(), Some("login"));
        assert_eq!(login(None).unwrap_err().field(), Some("login"));
    }

    #[test]
    fn a_digest_is_not_a_tag() {
        let text = format!("redis:7@sha256:{}", "0".repeat(64));
        let begun = begun(&text.parse().unwrap());
        assert_eq!((begun.name.as_str(), begun.tag.as_str()), ("redis", ""));
        assert_eq!(begun.repository, "library/redis");
    }
}
