//! Requests and their answers over HTTP/1.1: connections that are used again, time limits on every wait, redirects. A credential goes to the
//! origin that it is for; behind a redirect to another one there is none, and none comes back.

use std::{
    collections::HashMap,
    error::Error as StdError,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use tinyd_core::{Error, Kind, Result};
use tokio::time::timeout;

use super::{
    connect::{Connector, NoConnection},
    error::{Again, Failure},
    location::{self, Origin},
    names::Names,
    payload::{Payload, Sent},
    tls::{self, Trust},
};

/// How many redirects are followed, one after the other.
const REDIRECTS_MAX: usize = 5;
/// The most bytes of an answer's head, and of a piece of its body.
const READ_MAX_BYTES: usize = 256 << 10;
/// How long a connection that nobody uses is kept.
const KEEP: Duration = Duration::from_secs(30);
/// Who asks.
const USER_AGENT: &str = concat!("tinyd/", env!("CARGO_PKG_VERSION"));

/// How long one waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For a connection, with TLS.
    pub connect: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// For the next bytes, in either direction.
    pub bytes: Duration,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits {
            connect: Duration::from_secs(20),
            answer: Duration::from_secs(60),
            bytes: Duration::from_secs(30),
        }
    }
}

/// A request to a place that is trusted in one way.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    pub(super) trust: &'a Trust,
    /// What only this origin may see.
    pub(super) secrets: &'a [(HeaderName, HeaderValue)],
}

/// The beginning of an answer; its body is still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Who gave it, at the end of all redirects.
    pub(super) uri: Uri,
    body: Incoming,
    wait: Duration,
}

type Pool = legacy::Client<Connector, Sent>;

/// Connections to everybody, by how they are trusted.
#[derive(Debug)]
pub(super) struct Exchange {
    names: Arc<Names>,
    waits: Waits,
    pools: Mutex<HashMap<Trust, (Stamps, Pool)>>,
}

/// When each file of a trust was changed last.
type Stamps = Vec<Option<SystemTime>>;

impl Exchange {
    pub(super) fn new(names: Names, waits: Waits) -> Exchange {
        Exchange { names: Arc::new(names), waits, pools: Mutex::default() }
    }

    fn pool(&self, trust: &Trust) -> Result<Pool> {
        let stamps =
            trust.files().map(|file| file.metadata().and_then(|meta| meta.modified()).ok()).collect();
        // A pool is put in whole.
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        // A certificate that was exchanged counts for the next connection.
        if let Some((then, pool)) = pools.get(trust)
            && *then == stamps
        {
            return Ok(pool.clone());
        }
        let connector = Connector {
            names: Arc::clone(&self.names),
            tls: Arc::new(tls::client(trust)?),
            plain: trust.plain,
            within: self.waits.connect,
        };
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP)
            .http1_max_buf_size(READ_MAX_BYTES)
            .build(connector);
        pools.insert(trust.clone(), (stamps, pool.clone()));
        Ok(pool)
    }

    /// Asks, and for `GET` and `HEAD` goes where the answer points to.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Answer, Failure> {
        let own = Origin::of(&ask.uri)?;
        let others = ask.trust.for_others();
        let (mut uri, mut is_own) = (ask.uri.clone(), true);
        for _ in 0..=REDIRECTS_MAX {
            let trust = if is_own { ask.trust } else { &others };
            let secrets = if is_own { ask.secrets } else { &[] };
            let answer = self.once(&ask, uri.clone(), trust, secrets).await?;
            let Some(next) = answer.points_to()? else { return Ok(answer) };
            if ask.method != Method::GET && ask.method != Method::HEAD {
                return Err(wrong(format!("it points to {} for {}", host(&next), ask.method)));
            }
            let (from, to) = (Origin::of(&uri)?, Origin::of(&next)?);
            if from.is_tls && !to.is_tls {
                return Err(wrong(format!("it points to {} without TLS", host(&next))));
            }
            is_own = is_own && to == own;
            uri = next;
        }
        Err(wrong(format!("it points from one place to the next more than {REDIRECTS_MAX} times")))
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        uri: Uri,
        trust: &Trust,
        secrets: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, Failure> {
        let pool = self.pool(trust)?;
        let (body, progress) = ask.payload.send().await?;
        let mut request = Request::new(body);
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = ask.headers.clone();
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        // What is hashed is what is stored, never a form that was made for the way.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in secrets {
            headers.insert(name, value.clone());
        }
        let mut asked = std::pin::pin!(pool.request(request));
        let answered = loop {
            let before = progress.count();
            match timeout(self.waits.answer, &mut asked).await {
                Ok(answered) => break answered,
                // What is still being sent has its time for every piece.
                Err(_) if progress.count() > before => {}
                Err(_) => return Err(late("no answer", self.waits.answer)),
            }
        };
        let (parts, body) = answered.map_err(|error| unreached(&error))?.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, uri, body, wait: self.waits.bytes })
    }
}

impl Answer {
    /// Where it says that the content is.
    fn points_to(&self) -> Result<Option<Uri>> {
        let is_redirect = matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let to = self.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        match to.filter(|_| is_redirect) {
            None => Ok(None),
            Some(to) => location::resolve(&self.uri, to).map(Some),
        }
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = timeout(self.wait, self.body.frame()).await;
            match frame.map_err(|_| late("nothing more", self.wait))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::transient(deepest(&error))),
                Some(Ok(frame)) => {
                    // Trailers are nobody's.
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The whole body, unless it is larger.
    pub(super) async fn whole(&mut self, limit_bytes: u64) -> Result<Bytes, Failure> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if (whole.len() + piece.len()) as u64 > limit_bytes {
                return Err(wrong(format!("its answer has more than {limit_bytes} bytes")));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// The beginning of the body of an error, or as much of it as comes.
    pub(super) async fn beginning(&mut self, limit_bytes: u64) -> Bytes {
        let mut whole = BytesMut::new();
        while let Ok(Some(piece)) = self.piece().await {
            whole.extend_from_slice(&piece);
            if whole.len() as u64 >= limit_bytes {
                break;
            }
        }
        whole.freeze()
    }

    /// A header as text.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// An answer that no second try makes better.
pub(super) fn wrong(message: String) -> Failure {
    Failure { error: Error::new(Kind::InvalidArgument, message), again: Again::Never, is_unreached: false }
}

fn late(what: &str, wait: Duration) -> Failure {
    Failure::transient(format!("{what} within {} s", wait.as_secs_f32()))
}

/// Scheme, host and port: what may be shown of an address, whose query may have a signature in it.
pub(super) fn host(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
}

fn unreached(error: &legacy::Error) -> Failure {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(why) = error.downcast_ref::<NoConnection>() {
            let again = if why.is_transient { Again::Backoff } else { Again::Never };
            let error = Error::new(Kind::Unavailable, why.message.clone());
            return Failure { error, again, is_unreached: true };
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_parse()
        {
            return wrong(format!("it does not speak HTTP: {}", deepest(error)));
        }
        source = error.source();
    }
    Failure::transient(deepest(error))
}

/// What is at the bottom of an error: the floors above only say that something went wrong.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
