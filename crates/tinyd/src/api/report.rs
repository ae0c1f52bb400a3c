//! One line in the log for each call that fails, with who called; at debug level one for each that does not.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tonic::{Status, codegen::http};
use tower::{Layer, Service, layer::layer_fn};

use crate::daemon::Peer;

/// Makes a service tell.
pub(crate) fn report<S>() -> impl Layer<S, Service = Report<S>> + Clone {
    layer_fn(|inner| Report { inner })
}

/// A service that tells.
#[derive(Clone, Debug)]
pub(crate) struct Report<S> {
    inner: S,
}

impl<S, A, B> Service<http::Request<A>> for Report<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        let call = request.uri().path().trim_start_matches("/tinyd.v1.").to_owned();
        let peer = request.extensions().get::<Peer>().cloned();
        let answered = self.inner.call(request);
        Box::pin(async move {
            let response = answered.await?;
            tell(&call, peer.as_ref(), Status::from_header_map(response.headers()).as_ref());
            Ok(response)
        })
    }
}

/// A failure is in the headers of a response that has no body; streams that fail later tell it themselves.
fn tell(call: &str, peer: Option<&Peer>, status: Option<&Status>) {
    let peer = peer.map(ToString::to_string).unwrap_or_default();
    match status {
        None => tracing::debug!(call, peer, "done"),
        Some(status) if status.code() == tonic::Code::Ok => tracing::debug!(call, peer, "done"),
        Some(status) if status.code() == tonic::Code::Internal => {
            tracing::error!(call, peer, error = status.message(), "call failed");
        }
        Some(status) => tracing::info!(call, peer, error = status.message(), "call refused"),
    }
}
