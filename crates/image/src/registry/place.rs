//! One repository at one host, asked by somebody: the request with what the host wants to see, and what its answer means.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use tinyd_core::{Error, Kind, Result};

use super::{
    auth::{Tokens, Wish},
    credentials::Login,
    error::{self, Asked, Failure, refusal},
    exchange::{Answer, Ask, Exchange},
    hosts::Endpoint,
    location::{Origin, with_parameter},
    payload::Payload,
};

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) exchange: Exchange,
    pub(super) tokens: Tokens,
}

/// A repository at a host.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    pub(super) endpoint: Endpoint,
    login: Option<Login>,
    scopes: Vec<String>,
    /// What the host wanted to see last time.
    shown: Mutex<Option<HeaderValue>>,
}

/// A request to a place.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    payload: Payload,
}

impl Request {
    pub(super) fn new(method: Method, uri: Uri) -> Request {
        Request { method, uri, headers: HeaderMap::new(), payload: Payload::None }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Request {
        self.headers.append(name, value);
        self
    }

    pub(super) fn payload(self, payload: Payload) -> Request {
        Request { payload, ..self }
    }
}

impl Place {
    pub(super) fn new(
        shared: &Arc<Shared>,
        endpoint: Endpoint,
        login: Option<Login>,
        scopes: Vec<String>,
    ) -> Place {
        Place { shared: Arc::clone(shared), endpoint, login, scopes, shown: Mutex::new(None) }
    }

    /// Below the repository: `manifests/latest`.
    pub(super) fn address(&self, path: &str) -> Result<Uri> {
        let text = format!("{}/{}/{path}", self.endpoint.base, self.endpoint.repository);
        let bad = |_| Error::new(Kind::InvalidArgument, format!("{text:?} is no address"));
        let uri: Uri = text.parse().map_err(bad)?;
        match &self.endpoint.namespace {
            // containerd's way to tell a mirror whose content is wanted.
            Some(registry) => with_parameter(&uri, "ns", registry),
            None => Ok(uri),
        }
    }

    /// Asks whether it is one of the distribution specification, and takes who asks.
    pub(super) async fn greet(&self) -> Result<(), Failure> {
        let text = format!("{}/", self.endpoint.base);
        let bad = |_| Error::new(Kind::InvalidArgument, format!("{text:?} is no address"));
        let request = Request::new(Method::GET, text.parse().map_err(bad)?);
        self.take(request, &[StatusCode::OK]).await.map(drop)
    }

    /// Asks. Every answer that is not about who asks is given back.
    pub(super) async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let own = Origin::of(&self.endpoint.base)?;
        let is_own = Origin::of(&request.uri)? == own;
        let others = self.endpoint.trust.for_others();
        let mut refused = None;
        loop {
            let shown = self.shown().filter(|_| is_own);
            let mut secrets = if is_own { self.endpoint.headers.clone() } else { Vec::new() };
            secrets.extend(shown.clone().map(|value| (header::AUTHORIZATION, value)));
            let ask = Ask {
                method: request.method.clone(),
                uri: request.uri.clone(),
                headers: request.headers.clone(),
                payload: request.payload.clone(),
                trust: if is_own { &self.endpoint.trust } else { &others },
                secrets: &secrets,
            };
            let mut answer = self.shared.exchange.ask(ask).await?;
            // Another host, to which this one points, is not told who asks.
            let asks_who = answer.status == StatusCode::UNAUTHORIZED && Origin::of(&answer.uri)? == own;
            if !asks_who || refused.is_some() {
                return Ok(answer);
            }
            // What was learnt meanwhile by another request is tried first.
            if self.shown() == shown {
                let wish = Wish {
                    endpoint: &self.endpoint,
                    login: self.login.as_ref(),
                    scopes: &self.scopes,
                    refused: shown.as_ref(),
                };
                let next = self.shared.tokens.answer(&self.shared.exchange, &wish, &answer.headers).await?;
                if next.is_none() || next == shown {
                    return Ok(answer);
                }
                self.show(next);
            }
            refused = Some(shown);
            // Read to its end, the connection is used again.
            answer.beginning(error::BODY_MAX_BYTES).await;
        }
    }

    /// Asks, and takes only these answers.
    pub(super) async fn take(&self, request: Request, good: &[StatusCode]) -> Result<Answer, Failure> {
        let answer = self.send(request).await?;
        if good.contains(&answer.status) { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    /// What an answer says that is not wanted.
    pub(super) async fn refusal(&self, mut answer: Answer) -> Failure {
        let body = answer.beginning(error::BODY_MAX_BYTES).await;
        let asked = Asked { registry: &self.endpoint.account, has_login: self.login.is_some() };
        refusal(asked, answer.status, &answer.headers, &body)
    }

    fn shown(&self) -> Option<HeaderValue> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, value: Option<HeaderValue>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}
