//! Who asks, in the way that a registry wants to see it: name and password (RFC 7617), or a token that its token server gives for them
//! (distribution specification, "Token Authentication"). Tokens are kept for as long as they are good, each for what it was given for.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use tinyd_core::{Error, Kind, Result};

use super::{
    challenge::{Challenge, challenges},
    credentials::Login,
    error::{self, Asked, Failure, refusal},
    exchange::{Ask, Exchange},
    hosts::Endpoint,
    location::{Origin, percent},
    payload::Payload,
    realm,
};

/// The most bytes of a token server's answer.
const ANSWER_MAX_BYTES: u64 = 256 << 10;
/// How long a token is good whose server does not say (distribution specification).
const GOOD_BY_DEFAULT: Duration = Duration::from_secs(60);
/// The longest that a token is kept, whatever its server says.
const GOOD_MAX: Duration = Duration::from_secs(3600);
/// The most tokens that are kept.
const TOKENS_MAX: usize = 256;
/// What a token server knows us by.
const CLIENT: &str = "tinyd";

/// What a token was given for, and to whom.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Purpose {
    realm: String,
    service: Option<String>,
    scopes: Vec<String>,
    login: Option<Login>,
}

#[derive(Clone)]
struct Token {
    value: HeaderValue,
    until: Instant,
}

/// Tokens that are still good.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Purpose, Token>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// Who wants what from where.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) login: Option<&'a Login>,
    /// `repository:library/redis:pull`.
    pub(super) scopes: &'a [String],
    /// What was shown and refused.
    pub(super) refused: Option<&'a HeaderValue>,
}

impl Tokens {
    /// What to show to somebody who has answered with these challenges; `None` when there is nothing that would help.
    pub(super) async fn answer(
        &self,
        exchange: &Exchange,
        wish: &Wish<'_>,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Failure> {
        let all = challenges(headers);
        for challenge in &all {
            if let Challenge::Bearer { realm, service } = challenge {
                return self.token(exchange, wish, realm, service.as_deref()).await.map(Some);
            }
        }
        match wish.login {
            Some(login) if all.contains(&Challenge::Basic) => basic(login).map(Some).map_err(Failure::from),
            Some(_) | None => Ok(None),
        }
    }

    async fn token(
        &self,
        exchange: &Exchange,
        wish: &Wish<'_>,
        realm: &str,
        service: Option<&str>,
    ) -> Result<HeaderValue, Failure> {
        let purpose = Purpose {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scopes: wish.scopes.to_vec(),
            login: wish.login.cloned(),
        };
        if let Some(known) = self.known(&purpose, wish.refused) {
            return Ok(known);
        }
        let token = fetch(exchange, wish, &purpose).await.map_err(|failure| {
            failure.context(format_args!("ask for a token for {}", wish.endpoint.account))
        })?;
        self.keep(purpose, token.clone());
        Ok(token.value)
    }

    fn known(&self, purpose: &Purpose, refused: Option<&HeaderValue>) -> Option<HeaderValue> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let token = all.get(purpose).filter(|token| token.until > Instant::now())?;
        (refused != Some(&token.value)).then(|| token.value.clone())
    }

    fn keep(&self, purpose: Purpose, token: Token) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.retain(|_, token| token.until > now);
        if all.len() >= TOKENS_MAX {
            all.clear();
        }
        all.insert(purpose, token);
    }
}

async fn fetch(exchange: &Exchange, wish: &Wish<'_>, purpose: &Purpose) -> Result<Token, Failure> {
    let endpoint = wish.endpoint;
    let own = Origin::of(&endpoint.base)?;
    let realm = realm::checked(&own, &purpose.realm, endpoint.trust.plain)?;
    let there = Origin::of(&realm)?;
    let others = endpoint.trust.for_others();
    let service = purpose.service.as_deref().unwrap_or_default();
    let mut headers = HeaderMap::new();
    let mut secrets = Vec::new();
    let (method, uri, payload) = match wish.login {
        Some(Login::IdentityToken(token)) => {
            let form = [
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", CLIENT),
                ("scope", &purpose.scopes.join(" ")),
                ("refresh_token", token),
            ]
            .map(|(name, value)| format!("{name}={}", percent(value)));
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(header::CONTENT_TYPE, form_type);
            (Method::POST, realm, Payload::Bytes(form.join("&").into()))
        }
        password @ (Some(Login::Password { .. }) | None) => {
            let mut parameters = Vec::new();
            if !service.is_empty() {
                parameters.push(("service", service));
            }
            parameters.extend(purpose.scopes.iter().map(|scope| ("scope", scope.as_str())));
            if let Some(login @ Login::Password { username, .. }) = password {
                parameters.extend([("account", username.as_str()), ("client_id", CLIENT)]);
                secrets.push((header::AUTHORIZATION, basic(login)?));
            }
            (Method::GET, realm::question(&realm, &parameters)?, Payload::None)
        }
    };
    let trust = if there.host == own.host { &endpoint.trust } else { &others };
    let ask = Ask { method, uri, headers, payload, trust, secrets: &secrets };
    let began = Instant::now();
    let mut answer = exchange.ask(ask).await?;
    if !answer.status.is_success() {
        let body = answer.beginning(error::BODY_MAX_BYTES).await;
        let asked = Asked { registry: &endpoint.account, has_login: wish.login.is_some() };
        return Err(refusal(asked, answer.status, &answer.headers, &body));
    }
    let body = answer.whole(ANSWER_MAX_BYTES).await?;
    read(&body, began).map_err(Failure::from)
}

/// What a token server says.
fn read(body: &[u8], began: Instant) -> Result<Token> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
        #[serde(default)]
        expires_in: Option<f64>,
    }
    // Of what cannot be read nothing is shown: there is a token in it.
    let bad = |rule: &str| Error::new(Kind::Internal, format!("the token server's answer {rule}"));
    let answer: Answer = serde_json::from_slice(body).map_err(|_| bad("is not what it should be"))?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() {
        return Err(bad("has no token"));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| bad("has a token that no header can have"))?;
    value.set_sensitive(true);
    let said = answer.expires_in.filter(|seconds| *seconds > 0.0);
    let good = said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(GOOD_BY_DEFAULT);
    // A tenth less: it has a way to go.
    Ok(Token { value, until: began + good.min(GOOD_MAX).mul_f64(0.9) })
}

/// Name and password as a header has them.
fn basic(login: &Login) -> Result<HeaderValue> {
    let Login::Password { username, password } = login else {
        let message = "the registry wants a name and a password, and there is only a token of a token server";
        return Err(Error::new(Kind::PermissionDenied, message));
    };
    if username.contains(':') {
        return Err(Error::new(Kind::InvalidArgument, "the user's name has a colon in it"));
    }
    let text = format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")));
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Error::new(Kind::InvalidArgument, "the password cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_as_long_as_its_server_says_and_not_forever() {
        let began = Instant::now();
        for (answer, seconds) in [
            (r#"{"token":"a"}"#, 54.0),
            (r#"{"access_token":"a","expires_in":300}"#, 270.0),
            (r#"{"token":"a","access_token":"b","expires_in":1e300}"#, 54.0),
            (r#"{"token":"a","expires_in":999999999}"#, 3240.0),
            (r#"{"token":"a","expires_in":-1}"#, 54.0),
        ] {
            let token = read(answer.as_bytes(), began).unwrap();
            assert_eq!(token.value, "Bearer a");
            assert!(token.value.is_sensitive());
            assert!(((token.until - began).as_secs_f64() - seconds).abs() < 0.01, "{answer}");
        }
        for bad in ["", "{}", r#"{"token":""}"#, r#"{"token":"secret\r\nX: y"}"#, "secret"] {
            let error = read(bad.as_bytes(), began).err().unwrap();
            assert!(!error.message().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_name_with_a_colon_is_no_name() {
        let of = |username: &str| Login::Password { username: username.into(), password: "b:c".into() };
        assert_eq!(basic(&of("a")).unwrap(), "Basic YTpiOmM=");
        assert!(basic(&of("a:b")).is_err());
        assert!(basic(&Login::IdentityToken("x".into())).is_err());
    }
}
